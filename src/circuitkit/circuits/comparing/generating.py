"""Heads ablated and scaled while a model writes, beside random heads of the same layers, and how answers then end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from circuitkit.ablation.head_sites import head_of, head_sites
from circuitkit.circuits.comparing.failures import LOOPS_AT, ReadSteps, classify_failures
from circuitkit.circuits.comparing.generation_outcome import GenerationEffects
from circuitkit.circuits.comparing.generation_runs import INTACT, ITSELF, GenerationRun
from circuitkit.circuits.errors import CircuitError
from circuitkit.evaluation import Evaluation, evaluate
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts
from circuitkit.random_sets import RandomSets
from circuitkit.records import provenance
from circuitkit.run.interventions import Intervention, mean, scale, zero
from circuitkit.statistics import Head
from circuitkit.tasks.loading import load as load_task
from circuitkit.tasks.task import Task

if TYPE_CHECKING:
    from circuitkit.model import Model

Way = str | float
"""What is done to heads: "zero", "mean", or a factor that their outputs are multiplied by."""
WAYS: tuple[Way, ...] = ("zero", "mean", 0.5, 1.3)
_REFERENCE_ROWS, _REFERENCE_TOKENS = 32, 2048


class _Planned(NamedTuple):
    """A run to come."""

    set: str
    way: Way
    draw: int
    sites: tuple[Site, ...]


def generation_effects(
    model: Model,
    task: Task | str | Path,
    sets: Mapping[str, Sequence[Head]],
    *,
    ways: Sequence[Way] = WAYS,
    controls: int = 10,
    judge: str | None = None,
    reference: Prompts | None = None,
    steps: ReadSteps | None = None,
    loops_at: float = LOOPS_AT,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    **asking: Any,
) -> GenerationEffects:
    """Ablate and scale sets of heads while a model reads and writes, and tell how its answers then end.

    Each way holds at every position, in the prompt and in what is generated. Beside each set stand random sets with as
    many heads in each layer, changed in the same way: other heads where the layers have enough (see `RandomSets`).

    Args:
        model: who answers.
        task: what is asked, as `ck.evaluate` takes it.
        sets: heads by the set's name, each `(layer, head)`.
        ways: "zero", "mean", and factors such as 0.5 and 1.3.
        controls: random sets beside each; fewer where there are no more. From fewer than 39 no `p_controls` below 0.05
            can come, which is two-sided and from ranks; the interval of the margin over them can be told of a few.
        judge: whose verdict counts; the task's first if None.
        reference: prompts over whose tokens the means are taken; if None, the first questions with the intact model's
            own answers.
        steps, loops_at: how failures are told; see `classify_failures`.
        seed: of the random sets.
        out: a folder that keeps every response as it ends; the same call goes on there where it was cut short.
        progress: show a bar.
        asking: further settings of `ck.evaluate`: limit, samples, seeds, decoding, max_new_tokens, chat, …

    Raises:
        CircuitError: there is no set, a set has no heads, two are called alike, or a way that there is
            not, or twice.
        SiteError: a head does not exist.
        EvaluationError, TaskError: as `ck.evaluate` raises them.

    Source: "Thinking Sparks" (arXiv 2509.25758) ablates and scales heads so, without controls; Wang et al. 2022 (arXiv
    2211.00593) for mean ablation.

    >>> task = ck.tasks.prontoqa.task("implication_elimination", shots=0, n=4)
    >>> model = ck.load("deductor-130k")
    >>> found = generation_effects(model, task, {"last": [(2, 0)]}, ways=["zero"], controls=1, progress=False)
    >>> found.frame[["set", "way", "controls"]].values.tolist()
    [['last', 'zero', 1]]
    """
    task = task if isinstance(task, Task) else load_task(str(task))
    named = _sites(model, sets)
    names = [called(way) for way in ways]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise CircuitError(f"the way {twice[0]} is given twice, or to more digits than tables tell: give it once")
    drawn = RandomSets.beside(model, list(named.values()), controls, seed)
    planned = list(_planned(named, drawn, ways))
    folder = None if out is None else Path(out)
    classify = partial(classify_failures, judge=judge, steps=steps, loops_at=loops_at)
    asking["progress"] = False
    with tqdm(total=1 + len(planned), desc="answers", unit="run", disable=not progress) as bar:
        asked = evaluate(model, task, out=None if folder is None else folder / INTACT, **asking)
        intact = GenerationRun.of(INTACT, "", ITSELF, (), classify(asked))
        bar.update()
        means = _means(model, planned, asked, reference) if "mean" in ways else {}
        runs = []
        for each in planned:
            where = None if folder is None else folder / _folder(each)
            found = evaluate(model, task, _interventions(each, means), out=where, **asking)
            runs.append(_run(each, classify(found)))
            bar.update()
    return _outcome(model, task, judge, asked, intact, runs, drawn, seed, loops_at)


def called(way: Way) -> str:
    """What tables call a way.

    Raises:
        CircuitError: there is no such way.

    >>> called("zero"), called(0.5)
    ('zero', 'x0.5')
    """
    if isinstance(way, str):
        if way not in ("zero", "mean"):
            raise CircuitError(f"heads are changed by 'zero', 'mean' or a factor such as 0.5, not {way!r}")
        return way
    if not 0 <= way < math.inf or way == 1:
        raise CircuitError(f"a head's output times {way} is no ablation or scaling: give a factor of 0 or more, not 1")
    return f"x{way:g}"


def _sites(model: Model, sets: Mapping[str, Sequence[Head]]) -> dict[str, tuple[Site, ...]]:
    if not sets:
        raise CircuitError("there are no sets of heads: name one at least, such as {'emergent': [(2, 1)]}")
    found = {name: tuple(head_sites(model, heads)) for name, heads in sets.items()}
    for name, sites in found.items():
        if not sites:
            raise CircuitError(f"the set {name!r} has no heads, so nothing is changed: leave it out")
        if name == INTACT:
            raise CircuitError(f"{INTACT!r} is what the unchanged model is called: name the set otherwise")
    # Some file systems take capitals for small letters.
    folders = {name: _safe(name).casefold() for name in found}
    for name, other in combinations(folders, 2):
        if folders[name] == folders[other]:
            raise CircuitError(f"the sets {name!r} and {other!r} would share a folder of responses: rename one of them")
    return found


def _planned(named: Mapping[str, tuple[Site, ...]], drawn: RandomSets, ways: Sequence[Way]) -> Iterator[_Planned]:
    for (name, sites), others in zip(named.items(), drawn.drawn, strict=True):
        for way in ways:
            yield _Planned(name, way, ITSELF, sites)
            yield from (_Planned(name, way, number, other) for number, other in enumerate(others))


def _folder(each: _Planned) -> str:
    return f"{_safe(each.set)} {called(each.way)} {'itself' if each.draw == ITSELF else f'random {each.draw}'}"


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_. " else "-" for letter in name)


def _interventions(each: _Planned, means: Mapping[Site, Intervention]) -> list[Intervention]:
    if each.way == "zero":
        return [zero(site) for site in each.sites]
    if each.way == "mean":
        return [means[site] for site in each.sites]
    return [scale(site, float(each.way)) for site in each.sites]


def _means(
    model: Model, planned: Sequence[_Planned], asked: Evaluation, reference: Prompts | None
) -> dict[Site, Intervention]:
    """Interventions that put each head's mean output in its place."""
    sites = list(dict.fromkeys(site for each in planned for site in each.sites))
    rows = model.tokens(_answered(model, asked) if reference is None else reference)
    sums: dict[Site, Float[Tensor, " d_head"]] = {}
    count = 0
    # Row by row, since rows may be long and all heads are kept.
    for row in range(len(rows)):
        ids = rows.ids[row][rows.mask[row]][:_REFERENCE_TOKENS]
        kept = model.run([ids.tolist()], capture=list(dict.fromkeys(site.place for site in sites)), logits_at=-1).cache
        count += len(ids)
        for site in sites:
            summed = kept[site][0].double().sum(0)
            sums[site] = sums[site] + summed if site in sums else summed
    return {site: mean(site, (sums[site] / count).to(torch.float32)) for site in sites}


def _answered(model: Model, asked: Evaluation) -> list[list[int]]:
    """The first questions, each with what the intact model answered."""
    first = {response.key: response.prompt + response.text for response in reversed(asked.responses)}
    texts = [first[item.key] for item in asked.items[:_REFERENCE_ROWS]]
    # A chat template writes the tokens that a text begins with itself.
    rows = model.tokenizer(texts, add_special_tokens=not asked.provenance["chat"])["input_ids"]
    # Tokenized together, question and answer may be a token longer than they were, and than the context.
    return [list(row[: model.context]) for row in rows]


def _run(each: _Planned, found: pd.DataFrame) -> GenerationRun:
    return GenerationRun.of(each.set, called(each.way), each.draw, tuple(map(head_of, each.sites)), found)


def _outcome(
    model: Model,
    task: Task,
    judge: str | None,
    asked: Evaluation,
    intact: GenerationRun,
    runs: Sequence[GenerationRun],
    drawn: RandomSets,
    seed: int,
    loops_at: float,
) -> GenerationEffects:
    names = {name: None for item in asked.items for name in item.groups}
    return GenerationEffects(
        model.name,
        task.name,
        judge or asked.judges[0],
        tuple(item.key for item in asked.items),
        {name: tuple(item.groups.get(name, "") for item in asked.items) for name in names},
        len(asked.responses) // len(asked.items),
        intact,
        tuple(runs),
        provenance(
            model_name=model.name,
            revision=model.revision,
            data=[item.question for item in asked.items],
            seed=seed,
            study="circuits.generation_effects",
            loops_at=loops_at,
            disjoint=list(drawn.disjoint),
            decoding=asked.decoding,
            asked={name: asked.provenance[name] for name in ("max_new_tokens", "seeds", "samples", "chat", "think")},
        ),
    )
