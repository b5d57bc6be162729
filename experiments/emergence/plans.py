"""What `emergent_heads.py` runs: a pair of models, the recipes by which circuits are found, and how much, by preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import circuitkit as ck
from circuitkit.circuits import Graph
from circuitkit.circuits.attributing.alignment import Align
from circuitkit.circuits.graphs.convention import OverExamples, Rule
from emergence.asking import Asked, Contest, Deductions


@dataclass(frozen=True)
class Recipe:
    """How a circuit is found.

    Attributes:
        name: what tables call it.
        prompts: "openings", the paper's pairs, or "step", deductions that differ in one rule.
        metric: of the attribution.
        method, steps, rule, examples: as `ck.circuits.attribute` takes them.
        share: of the edges, the strongest, that are kept; or
        top: so many of them; as many as there are where these are fewer.
        threshold: least magnitude of what is kept, in the metric's unit.
    """

    name: str
    prompts: Literal["openings", "step"]
    metric: str
    method: str = "eap-ig"
    steps: int = 5
    rule: Rule = "left"
    examples: OverExamples = "mean"
    share: float | None = None
    top: int | None = None
    threshold: float | None = None

    def edges(self, n_edges: int) -> int:
        """How many edges are kept before the threshold."""
        wanted = round(self.share * n_edges) if self.share is not None else self.top or n_edges
        return min(wanted, n_edges)

    def scored(self, model: ck.Model, pairs: ck.Pairs, align: Align, path: str) -> Graph:
        """The scores of a model's edges, each problem's own too, which are kept in a file."""
        graph = ck.circuits.attribute(
            model,
            pairs,
            self.metric,
            self.method,
            steps=self.steps,
            rule=self.rule,
            examples=self.examples,
            align=align,
            keep_examples=True,
            progress=False,
        )
        graph.save(Path(path))
        return graph

    def cut(self, graph: Graph) -> Graph:
        """The circuit of a graph's scores."""
        circuit = graph.top(self.edges(graph.layout.n_edges))
        if self.threshold is not None:
            circuit = circuit.threshold(self.threshold)
        return circuit.prune()


STEP = Recipe("step", "step", "logit_difference", share=0.1)
"""A step of a deduction: the same prompts for both models."""
OPENINGS = Recipe("openings", "openings", "kl", share=0.1)
"""The paper's prompts, with a circuit of the same share of edges in each model."""
PUBLISHED = Recipe(
    "published", "openings", "kl", steps=100, rule="right", examples="mean-absolute", top=5000, threshold=0.1
)
"""As the paper has it (A.5): 100 steps, absolute scores, the top 5,000 edges, then those of 0.1 and more."""
RECIPES = (STEP, OPENINGS, PUBLISHED)


@dataclass(frozen=True)
class Twins:
    """A base and what post-training made of it.

    Attributes:
        name: what tables call the two.
        base, post: by name.
        checkpoints: on the way from one to the other, by step.
        final: the step of `post`, where checkpoints are counted.
        thinking: whether both are one model, thinking turned off in the base's place and on in the other's.
    """

    name: str
    base: str
    post: str
    checkpoints: Mapping[int, str] = field(default_factory=dict)
    final: int = 0
    thinking: bool = False


@dataclass(frozen=True)
class Plan:
    """All that is run.

    Attributes:
        twins: the models.
        asked: what they are asked.
        recipes: by which circuits are found.
        pairs: of prompts that a circuit is found on, at most.
        opening: tokens of an answer that prompts have.
        resamples: of the problems.
        intervened: recipes whose heads are changed while models write; all if empty.
        sets: heads that are changed together, at most; the most important first.
        ways: what is done to them.
        controls: random sets beside each.
        on: whose heads are changed while it writes.
        patched: heads that are patched across models, one at a time, at most; 0 for none.
        seed: of prompts, resamples and random sets.
        loading: `dtype` and `device_map`, as in `ck.load`.
        left_out: what cannot be done with these models, and why.
    """

    twins: Twins
    asked: Asked
    recipes: tuple[Recipe, ...] = RECIPES
    pairs: int = 48
    opening: int = 6
    resamples: int = 100
    intervened: tuple[str, ...] = ()
    sets: int = 8
    ways: tuple[str | float, ...] = ("zero", "mean", 0.5, 1.3)
    controls: int = 19
    on: tuple[Literal["base", "post"], ...] = ("post",)
    patched: int = 12
    seed: int = 0
    loading: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def of(self, names: tuple[str, ...]) -> Plan:
        """The plan of some of its recipes, in that order.

        Raises:
            SystemExit: there is no such recipe.
        """
        known = {recipe.name: recipe for recipe in self.recipes}
        if unknown := [name for name in names if name not in known]:
            raise SystemExit(f"there is no recipe {unknown[0]!r}; there are {', '.join(known)}")
        intervened = tuple(name for name in self.intervened if name in names)
        return replace(self, recipes=tuple(known[name] for name in names), intervened=intervened)

    @property
    def told(self) -> dict[str, object]:
        """What is kept of it in its folder, where another plan would overwrite it: all but which recipes are run."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in own.items() if name not in ("recipes", "intervened", "left_out")}


STEPS = {step: f"deductor-130k-step{step}" for step in (200, 600, 1500, 4000)}
FAMILY = Twins("deductor-130k", "deductor-130k-base", "deductor-130k-reason", STEPS, final=8000)

FULL = Plan(FAMILY, Deductions(n=40, circuit=12), pairs=96, resamples=400, controls=39)
SMALL = Plan(FAMILY, Deductions(n=12, circuit=6), intervened=("step",), controls=9)
QUICK = Plan(
    replace(FAMILY, checkpoints={600: STEPS[600]}),
    Deductions(("implication_elimination",), (1, 3), n=4, circuit=8, max_new_tokens=40),
    recipes=(STEP, replace(PUBLISHED, steps=4)),
    pairs=8,
    resamples=12,
    sets=3,
    ways=("zero", 1.3),
    controls=2,
    patched=2,
)
PRESETS = {"quick": QUICK, "small": SMALL, "full": FULL}

R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen"
HUB: Mapping[str, tuple[Twins, dict[str, Any]]] = {
    "qwen-1.5b": (Twins("Qwen2.5-Math-1.5B and R1", "Qwen/Qwen2.5-Math-1.5B", f"{R1}-1.5B"), {}),
    "qwen-7b": (Twins("Qwen2.5-Math-7B and R1", "Qwen/Qwen2.5-Math-7B", f"{R1}-7B"), {}),
    "qwen3-8b": (
        Twins("Qwen3-8B, thinking off and on", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B", thinking=True),
        {"top_k": 20},
    ),
    "llama-1b": (Twins("", "meta-llama/Llama-3.2-1B-Instruct", ""), {}),
}
"""The paper's pairs by a short name, and what is asked otherwise of them. What it trained itself (Llama by GRPO, and
Qwen2.5-Math by SFT and GRPO) is not named there: a training of one's own is given as --post."""


def hub_twins(pair: str | None, base: str | None, post: str | None) -> tuple[Twins, dict[str, Any]]:
    """One of the paper's pairs, or a pair of one's own, and what is asked otherwise of it.

    Raises:
        SystemExit: a model of the pair is not named, or a model that thinks and does not is named twice.
    """
    twins, more = (Twins("", "", ""), {}) if pair is None else HUB[pair]
    if twins.thinking:
        if post not in (None, base or twins.base):
            raise SystemExit(f"{pair} holds one model against itself, thinking off and on: name another one as --base")
        return (
            twins if base is None else Twins(f"{Path(base).name}, thinking off and on", base, base, thinking=True)
        ), more
    named = replace(twins, base=base or twins.base, post=post or twins.post)
    if pair is not None and not named.post:
        raise SystemExit(f"what the paper made of {named.base} is not to be had: name a training of your own as --post")
    if not (named.base and named.post):
        raise SystemExit("--base and --post are a pair: name both, or neither for the embedded twins")
    return named if named == twins else replace(
        named, name=f"{Path(named.base).name} and {Path(named.post).name}"
    ), more


def hub_plan(twins: Twins, task: str, **asking: Any) -> Plan:
    """The plan of a pair of the hub, asked a task by name."""
    return Plan(twins, Contest(task, **asking), pairs=30, opening=16, on=("post", "base"), controls=19)
