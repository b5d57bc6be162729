"""Total and direct effect of ablating a head: what the model loses, and what it would lose if nothing took over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from circuitkit.ablation.head_sites import Heads, head_sites
from circuitkit.ablation.heads import by_head
from circuitkit.ablation.replacements import How, Replacement
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Intervention, replace
from circuitkit.showing import Shown
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class Effects(Shown):
    """The total effect of ablating each head beside its direct effect.

    Attributes:
        total: all that follows from the ablation, later heads and MLPs reacting to it.
        direct: what reaches the final norm and the unembedding by itself, every later component held at its clean
            output.
    """

    total: Result
    direct: Result

    @property
    def repaired(self) -> Float[Tensor, "layer head"]:
        """What later components make good, in the metric's unit: the direct effect less the total."""
        return self.direct.effects - self.total.effects

    @property
    def frame(self) -> pd.DataFrame:
        """A row a head: `total`, `direct`, each with its interval and corrected p, and `repaired`."""
        columns = ["layer", "head", "effect", "low", "high", "p_corrected", "significant"]
        parts = []
        for name, result in (("total", self.total), ("direct", self.direct)):
            names = {column: f"{name}_{column}" for column in columns[3:]} | {"effect": name}
            parts.append(result.frame[columns].rename(columns=names).set_index(["layer", "head"]))
        frame = pd.concat(parts, axis=1).reset_index()
        frame["repaired"] = frame["direct"] - frame["total"]
        return frame

    def _title(self) -> str:
        return f"Effects: {self.total.title}, and direct effect"

    def _says(self) -> list[str]:
        frame, unit = self.frame, self.total.unit or self.total.metric
        heads = f"{len(frame)} head{'s' * (len(frame) != 1)}"
        reasons = [each.frame.attrs.get("statistics") for each in (self.direct, self.total)]
        direct, total = (int(frame[f"{name}_significant"].sum()) for name in ("direct", "total"))
        tested = f"{direct} of {heads} survive correction by direct effect, {total} by total effect."
        if reason := next(filter(None, reasons), None):
            tested = f"Nothing is tested: {reason}."
        most = frame.iloc[int(frame["repaired"].abs().argmax())]
        return [
            tested,
            f"Direct and total effect differ most at layer {most['layer']:.0f} head {most['head']:.0f}: "
            f"{most['direct']:.3g} {unit} directly, {most['total']:.3g} in all.",
        ]

    def _strongest(self) -> pd.DataFrame:
        shown = self.frame[
            ["layer", "head", "direct", "direct_low", "direct_high", "total", "total_low", "total_high", "repaired"]
        ]
        return shown.sort_values("direct", key=abs, ascending=False, kind="stable")


def effects(
    model: Model,
    prompts: Prompts | Pairs,
    heads: Heads = "all",
    how: How = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    factor: float | None = None,
    reference: Prompts | None = None,
    by_position: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Effects:
    """Ablate one head at a time, with later components reacting and with all of them held at their clean outputs.

    Other heads take over when one is removed, so a small total effect may hide a large direct one. The direct effect is
    exact: the head's changed output runs through the model's own final norm and unembedding, while `attn_out` and
    `mlp_out` of all that comes after are put back to the clean run's.

    Args and errors are those of `ablation.sweep`; SiteError also where a layer has no `attn_out` or `mlp_out`.

    Source: McGrath et al. 2023, The Hydra Effect, arXiv 2307.15771, sections 2 and 3.

    >>> both = effects(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], [(2, 0)], progress=False)
    >>> [name for name in both.frame if name in ("total", "direct", "repaired")]
    ['total', 'direct', 'repaired']
    """
    replacement = Replacement(how, factor, reference, by_position, seed)
    study, sites = Study.of_prompts(model, prompts, metric), head_sites(model, heads)
    ablations = replacement.at(model, study.tokens, sites)
    held = _held(study, min((site.layer or 0 for site in sites), default=0))
    cells = {
        "total": [[each] for each in ablations.values()],
        "direct": [[each, *_after(held, site)] for site, each in ablations.items()],
    }
    results = {
        name: study.result(
            by_head(model, sites, study.measured(cells[name], f"{name} effect", progress)),
            ("layer", "head"),
            f"Ablating heads ({replacement}), {name} effect",
            seed,
            study="ablation.effects",
            how=how,
            effect=name,
        )
        for name in cells
    }
    return Effects(**results)


def _held(study: Study, first: int) -> list[Intervention]:
    """What each component from a layer on added to the stream in the clean run, put back."""
    sites = [
        site
        for layer in range(first, study.model.n_layers)
        for kind in ("attn_out", "mlp_out")
        for site in study.model.sites(Site(kind, layer=layer))
    ]
    kept = study.model.run(study.tokens, capture=sites, logits_at=-1).cache
    return [replace(site, kept[site]) for site in sites]


def _after(held: Sequence[Intervention], head: Site) -> list[Intervention]:
    """The components that come after a head: its layer's MLP, and all of the layers above."""
    assert head.layer is not None
    return [
        each
        for each in held
        if (each.site.layer or 0) > head.layer or (each.site.layer == head.layer and each.site.kind == "mlp_out")
    ]
