"""lm-eval's tasks over several seeds, each run kept as it ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
from tqdm import tqdm

from circuitkit.evaluation.settings import check_same, interventions_told, weights_told
from circuitkit.interop.lm_eval.configurations import Configured, Data, configured
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.interop.lm_eval.harness_model import HarnessModel
from circuitkit.interop.lm_eval.outcome import HarnessEvaluation, HarnessRun
from circuitkit.interop.lm_eval.seeded import ready, run_of
from circuitkit.model import Model, load
from circuitkit.records import provenance
from circuitkit.run.interventions import Interventions
from circuitkit.tasks.task import Task

TASKS = ("aime24", "aime25", "gpqa_diamond_cot_zeroshot")
"""What reasoning was elicited on; lm-eval's own names."""
Asked = str | Path | Task | Mapping[str, Any]


def evaluate(
    model: Model | str,
    tasks: Asked | Sequence[Asked] = TASKS,
    interventions: Interventions = (),
    *,
    seeds: int | Sequence[int] = 4,
    temperature: float = 0.6,
    max_gen_toks: int | None = 29_000,
    generation: Mapping[str, Any] | None = None,
    data: Mapping[str, Data] | None = None,
    limit: int | None = None,
    chat: bool = False,
    system: str | None = None,
    order_seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> HarnessEvaluation:
    """Let lm-eval ask a model its tasks, once with each seed, under any interventions.

    Every run seeds torch's generator, of which tokens are drawn, with its own seed. So a run depends on its seed and on
    the batch size, and not on what ran before it.

    Args:
        model: who answers, or a name that `circuitkit.load` takes.
        tasks: names of lm-eval or of circuitkit's tasks for it, YAML files, tasks of `circuitkit.tasks`, or
            configurations.
        interventions: what holds while the model reads and writes.
        seeds: so many seeds from 0, or these.
        temperature: what logits are divided by before a token is drawn; 0 takes the likeliest, with one seed.
        max_gen_toks: tokens at which a response is broken off; the task's if None.
        generation: more of `generate`'s settings, such as top_p. What is not set is as the model's generation config
            has it, as lm-eval leaves it.
        data: by task, files or rows to ask in place of its data set; exemplars come out of them too, never the question
            that is asked.
        limit: the first questions alone.
        chat: put prompts into the tokenizer's chat template.
        system: a system message before them.
        order_seed: orders GPQA's answers, the same for every seed; 0 is lm-eval's.
        out: a folder that keeps every task's run with every seed as it ends; the same call goes on there.
        progress: show bars.
        settings: those of `HarnessModel`: batch_size (8 if not given), max_length, think_end_token, enable_thinking, ….

    Raises:
        HarnessError: there is no such task, or its data set cannot be had; seeds that could not differ; no room for a
            response; a folder whose run is of other questions or was asked otherwise.
        EvaluationError: a folder of other settings.
        InterventionError: an intervention does not fit, or never took place.

    Source: the protocol of 4 runs at temperature 0.6 with 29,000 tokens, "Reasoning Elicitation is Scale Dependent",
    NeurIPS 2025 workshop.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("AndElim", shots=0, n=2)
    >>> found = evaluate("deductor-130k", task, seeds=2, max_gen_toks=64, progress=False)
    >>> found.over_seeds(found.tasks[0], "headline").n
    2
    """
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    _check_seeds(chosen, temperature)
    harness = HarnessModel(
        load(model) if isinstance(model, str) else model,
        interventions,
        progress=progress,
        **{"batch_size": 8, **settings},
    )
    if limit is not None and limit < 1:
        raise HarnessError(f"limit {limit} leaves no question: give 1 or more, or None for all")
    if (chat or system is not None) and getattr(harness.tokenizer, "chat_template", None) is None:
        raise HarnessError(f"{harness.circuit_model.name}'s tokenizer has no chat template: leave chat and system out")
    if settings.get("enable_thinking") is not None and not chat:
        raise HarnessError("enable_thinking turns thinking on or off in a chat template: give chat=True as well")
    named = [tasks] if isinstance(tasks, str | Path | Task | Mapping) else list(tasks)
    told = _configurations(named, data or {}, order_seed)
    asking = {
        "generation": _generation(temperature, max_gen_toks, generation or {}),
        "limit": limit,
        "chat": chat,
        "system": system,
        "order_seed": order_seed,
        **{name: value for name, value in settings.items() if "batch" not in name},
    }
    _check_seeds_matter(told, chosen)
    _check_room(harness, told, asking["generation"])
    folder = None if out is None else Path(out)
    if folder is not None:
        check_same(folder, {**_about(harness), **asking})
    runs = _runs(harness, told, chosen, asking, folder, progress)
    about = provenance(
        model_name=harness.circuit_model.name,
        revision=harness.circuit_model.revision,
        study="lm-evaluation-harness",
        seeds=chosen,
        batch_size=_one_or_all([run.batch_size for run in runs]),
        lm_eval=lm_eval.__version__,
        interventions=harness.get_model_info()["model_interventions"],
        generation_config=_generation_config(harness.circuit_model),
        **asking,
    )
    found = HarnessEvaluation(harness.circuit_model.name, tuple(runs), about)
    if folder is not None:
        found.save_beside(folder)
    return found


def _check_seeds(seeds: Sequence[int], temperature: float) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise HarnessError(f"seeds {list(seeds)}: give one or more, and such that differ")
    if temperature < 0:
        raise HarnessError(f"temperature is {temperature}, and has to be 0 or more")
    if temperature == 0 and len(seeds) > 1:
        raise HarnessError("at temperature 0 all seeds would be alike: give seeds=1, or a temperature over 0")


def _check_seeds_matter(told: Sequence[Configured], seeds: Sequence[int]) -> None:
    if len(seeds) > 1 and (likely := [each.name for each in told if not each.generates]):
        raise HarnessError(f"{likely[0]} asks for likelihoods, by which all seeds are alike: give seeds=1")


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else list(values)


def _called(task: Asked) -> str:
    """The name under which data are given for a task."""
    if isinstance(task, Mapping):
        return str(task.get("task", ""))
    return task.name if isinstance(task, Task) else str(task)


def _configurations(tasks: Sequence[Asked], data: Mapping[str, Data], order_seed: int) -> list[Configured]:
    found: dict[str, Configured] = {}
    used: set[str] = set()
    for task in tasks:
        name = _called(task)
        each = configured(task, data.get(name), order_seed)
        used.add(name)
        if each.name in found:
            raise HarnessError(f"the task {each.name!r} is named twice")
        found[each.name] = each
    if unused := [name for name in data if name not in used]:
        raise HarnessError(
            f"there is data for {unused[0]!r}, which is none of the tasks {', '.join(map(_called, tasks))}"
        )
    return list(found.values())


def _generation(temperature: float, max_gen_toks: int | None, more: Mapping[str, Any]) -> dict[str, Any]:
    if taken := [name for name in ("temperature", "do_sample", "max_gen_toks", "max_new_tokens") if name in more]:
        raise HarnessError(f"{taken[0]} is no part of generation: temperature and max_gen_toks are arguments")
    drawn = {"do_sample": temperature > 0, "temperature": float(temperature)}
    return {**drawn, **({} if max_gen_toks is None else {"max_gen_toks": max_gen_toks}), **more}


def _check_room(harness: HarnessModel, told: Sequence[Configured], generation: Mapping[str, Any]) -> None:
    for each in told:
        if not each.generates:
            continue
        own = each.told.get("generation_kwargs") or {}
        room = generation.get("max_gen_toks", own.get("max_gen_toks", harness.max_gen_toks))
        if room < 1 or room >= harness.max_length:
            raise HarnessError(
                f"{each.name}: max_gen_toks {room} leaves no room for a prompt, as {harness.circuit_model.name} reads "
                f"{harness.max_length} tokens: give a max_gen_toks of 1 or more and well under that"
            )


def _about(harness: HarnessModel) -> dict[str, Any]:
    """What decides responses beside how they are asked for."""
    model = harness.circuit_model
    return {
        "model": model.name,
        "weights": weights_told(model),
        "interventions": interventions_told(harness.interventions, "interventions"),
        "held on the model": interventions_told(
            [each for session in model.sessions for each in session.interventions], "an open context"
        ),
        "generation config": _generation_config(model),
        "lm_eval": lm_eval.__version__,
    }


def _generation_config(model: Model) -> dict[str, Any]:
    """What of a model's generation config differs from transformers' own, and so acts."""
    config = getattr(model.hf, "generation_config", None)
    told = {} if config is None else config.to_diff_dict()
    return {name: value for name, value in told.items() if name not in ("transformers_version", "_from_model_config")}


def _runs(
    harness: HarnessModel,
    told: Sequence[Configured],
    seeds: Sequence[int],
    asking: Mapping[str, Any],
    folder: Path | None,
    progress: bool,
) -> list[HarnessRun]:
    """All runs, those that a folder has and those that are made now."""
    kept = _kept(folder, told, seeds)
    # What one task lacks is found before hours are spent on another.
    for each in told:
        if any((each.name, seed) not in kept for seed in seeds):
            ready(each, asking["generation"])
    found: list[HarnessRun] = []
    with tqdm(total=len(told) * len(seeds), disable=not progress, unit="run") as bar:
        for each in told:
            for seed in seeds:
                bar.set_description(f"{each.name}, seed {seed}")
                run = kept.get((each.name, seed))
                if run is None:
                    run = run_of(harness, each, seed, asking)
                    if folder is not None:
                        run.save(folder)
                found.append(run)
                bar.update()
    return found


def _kept(folder: Path | None, told: Sequence[Configured], seeds: Sequence[int]) -> dict[tuple[str, int], HarnessRun]:
    """The runs that a folder has, which are of the same questions under the same rules."""
    found: dict[tuple[str, int], HarnessRun] = {}
    if folder is None:
        return found
    for each in told:
        for seed in seeds:
            path = HarnessRun.path(folder, each.name, seed)
            if not path.exists():
                continue
            run = found[each.name, seed] = HarnessRun.load(path)
            if run.source != each.source:
                raise HarnessError(
                    f"{path} is a run of other questions ({run.source}) than these ({each.source}): give another folder"
                )
            if run.rules != each.rules:
                raise HarnessError(
                    f"{path} was asked or judged by another configuration of {each.name} than this: give another folder"
                )
    return found
