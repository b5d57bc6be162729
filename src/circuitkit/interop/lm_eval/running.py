"""lm-eval's tasks over several seeds, each run kept as it ends."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED
from tqdm import tqdm

from circuitkit.evaluation.settings import check_same, interventions_told, weights_told
from circuitkit.interop.lm_eval.bridging import UNPARSEABLE
from circuitkit.interop.lm_eval.configurations import Data, configuration_of, in_one_order, source_of
from circuitkit.interop.lm_eval.endings import Ending
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.interop.lm_eval.extraction import extracted
from circuitkit.interop.lm_eval.harness_model import HarnessModel
from circuitkit.interop.lm_eval.logs import quiet
from circuitkit.interop.lm_eval.outcome import HarnessEvaluation, HarnessRun
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
        data: by task, files or rows to ask in place of its data set.
        limit: the first questions alone.
        chat: put prompts into the tokenizer's chat template.
        system: a system message before them.
        order_seed: orders GPQA's answers, the same for every seed; 0 is lm-eval's.
        out: a folder that keeps every task's run with every seed as it ends; the same call goes on there.
        progress: show bars.
        settings: those of `HarnessModel`: batch_size (8 if not given), max_length, think_end_token, enable_thinking, ….

    Raises:
        HarnessError: there is no such task; seeds that could not differ; no room for a response; a folder whose run is
            of other questions.
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
        batch_size=harness.batch_size,
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


def _configurations(tasks: Sequence[Asked], data: Mapping[str, Data], order_seed: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    used: set[str] = set()
    for task in tasks:
        name = task if isinstance(task, str) else getattr(task, "name", "")
        told = configuration_of(task, data.get(name))
        used.add(name)
        if told["task"] in found:
            raise HarnessError(f"the task {told['task']!r} is named twice")
        found[told["task"]] = in_one_order(told, order_seed)
    if unused := [name for name in data if name not in used]:
        raise HarnessError(f"there is data for {unused[0]!r}, which is none of the tasks {', '.join(found)}")
    return found


def _generation(temperature: float, max_gen_toks: int | None, more: Mapping[str, Any]) -> dict[str, Any]:
    if taken := [name for name in ("temperature", "do_sample", "max_gen_toks", "max_new_tokens") if name in more]:
        raise HarnessError(f"{taken[0]} is no part of generation: temperature and max_gen_toks are arguments")
    drawn = {"do_sample": temperature > 0, "temperature": float(temperature)}
    return {**drawn, **({} if max_gen_toks is None else {"max_gen_toks": max_gen_toks}), **more}


def _check_room(harness: HarnessModel, told: Mapping[str, Mapping[str, Any]], generation: Mapping[str, Any]) -> None:
    for task, each in told.items():
        if each.get("output_type") != "generate_until":
            continue
        own = each.get("generation_kwargs") or {}
        room = generation.get("max_gen_toks", own.get("max_gen_toks", harness.max_gen_toks))
        if room < 1 or room >= harness.max_length:
            raise HarnessError(
                f"{task}: max_gen_toks {room} leaves no room for a prompt, as {harness.circuit_model.name} reads "
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
    told: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    asking: Mapping[str, Any],
    folder: Path | None,
    progress: bool,
) -> list[HarnessRun]:
    """All runs, those that a folder has and those that are made now."""
    found: list[HarnessRun] = []
    with tqdm(total=len(told) * len(seeds), disable=not progress, unit="run") as bar:
        for task, each in told.items():
            if each.get("output_type") != "generate_until" and len(seeds) > 1:
                raise HarnessError(f"{task} asks for likelihoods, by which all seeds are alike: give seeds=1")
            source = source_of(each)
            for seed in seeds:
                bar.set_description(f"{task}, seed {seed}")
                path = None if folder is None else HarnessRun.path(folder, task, seed)
                if path is not None and path.exists():
                    found.append(_kept(path, source))
                else:
                    found.append(_run(harness, each, seed, source, asking))
                    if folder is not None:
                        found[-1].save(folder)
                bar.update()
    return found


def _kept(path: Path, source: str) -> HarnessRun:
    run = HarnessRun.load(path)
    if run.source != source:
        raise HarnessError(
            f"{path} is a run of other questions ({run.source}) than these ({source}): give another folder"
        )
    return run


def _run(
    harness: HarnessModel, told: Mapping[str, Any], seed: int, source: str, asking: Mapping[str, Any]
) -> HarnessRun:
    began = time.monotonic()
    harness.endings = []
    with quiet(), _seeded(asking["order_seed"], seed):
        found = lm_eval.evaluate(
            harness,
            {told["task"]: _task(told, asking["generation"])},
            limit=asking["limit"],
            apply_chat_template=asking["chat"],
            fewshot_as_multiturn=asking["chat"],
            system_instruction=asking["system"],
            # Means over seeds have their own error; a bootstrap within a run is not asked for.
            bootstrap_iters=0,
        )
    samples = found["samples"][told["task"]]
    better = found["higher_is_better"][told["task"]]
    # Metrics as the task lists them, what failed last.
    metrics = {name: bool(better[name]) for name in better if name != UNPARSEABLE and _is_number(samples[0].get(name))}
    if not metrics:
        raise HarnessError(f"{told['task']} has no metric that is a number for each response, as means over seeds need")
    endings: list[Ending | None] = list(harness.endings) or [None] * len(samples)
    docs = list(dict.fromkeys(sample["doc_id"] for sample in samples))
    of_doc = dict(zip(docs, endings, strict=False))
    kept = [_sample(told, each, metrics, of_doc.get(each["doc_id"])) for each in samples]
    return HarnessRun(told["task"], seed, source, metrics, kept, time.monotonic() - began)


def _task(told: Mapping[str, Any], generation: Mapping[str, Any]) -> Any:
    """A task as lm-eval's `simple_evaluate` makes it ready, which beside that looks up the whole environment."""
    task = ConfigurableTask(config=dict(told))
    if task.get_config("output_type") == "generate_until":
        task.set_config(key="generation_kwargs", value=dict(generation), update=True)
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return task


@contextmanager
def _seeded(order_seed: int, seed: int) -> Iterator[None]:
    """Seed the generators as lm-eval does, and put them back as they were."""
    orders, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  # lm-eval's tasks draw of the global one
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(order_seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(orders)
            np.random.set_state(numbers)  # noqa: NPY002


def _sample(
    told: Mapping[str, Any], sample: Mapping[str, Any], metrics: Mapping[str, bool], ending: Ending | None
) -> dict[str, Any]:
    read = extracted(told, sample)
    return {
        "doc": sample["doc_id"],
        "filter": sample["filter"],
        "target": str(sample["target"]),
        "read": _plain(sample["filtered_resps"][0]),
        **{name: float(sample[name]) for name in metrics},
        "unextracted": None if read is None else not read,
        "truncated": None if ending is None else ending.truncated,
        "cut": None if ending is None else ending.cut,
        "n_tokens": None if ending is None else ending.n_tokens,
        "response": _plain(sample["resps"][0][0]),
        "prompt": str(sample["arguments"][0][0]),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def _plain(said: Any) -> str:
    return said if isinstance(said, str) else str(said)
