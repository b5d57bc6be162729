"""How much of a model's behaviour a circuit keeps when it is run alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit import metrics
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.circuits.evaluating.resampling import (
    Resampling,
    Statistic,
    alike,
    have_ratios,
    mean_of_ratios,
    ratio_of_means,
)
from circuitkit.circuits.evaluating.running import Runs, RunSettings
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.metrics import Compute, Metric
from circuitkit.pairs import Pairs
from circuitkit.saving import InOneFile
from circuitkit.statistics import Interval
from circuitkit.statistics.cells import as_array

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Averaging = Literal["ratio of means", "mean of ratios"]

_OUTSIDE = {
    "patch": "everything else patched to the corrupt run",
    "mean": "everything else at its mean",
    "zero": "everything else at zero",
}
_DRAWS = 2000


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness(InOneFile):
    """What a circuit does alone, beside the whole model and the empty circuit.

    Faithfulness is f = (m − m∅) / (m₁ − m∅), of the circuit's metric m, that of the empty circuit m∅ under the same
    ablation, and that of the clean run m₁: 1 where the circuit does what the model does, 0 where it does no more than
    no circuit at all; it may lie outside. `value` takes means over examples first, as MIB does, `mean_of_ratios` the
    mean of each example's own f, which examples weigh in that hardly differ (Miller et al. 2024, arXiv 2407.08734).

    Attributes:
        circuit: the metric of each example with only the circuit's edges.
        clean: of the clean run.
        empty: with every edge replaced; where pairs are patched and aligned throughout, of the corrupt run.
        size, n_edges: edges of the circuit, and of the whole graph.
        metric, unit: what was measured.
        ablation: what edges outside the circuit carried.
        groups: the clusters that examples belong to; None where each stands alone.
        seed: of intervals.
        provenance: model, data, versions, command.

    >>> Faithfulness(torch.tensor([3.0, 2.0]), torch.tensor([4.0, 2.0]), torch.zeros(2), 5, 50, "probability").value
    0.8333333333333334
    """

    _kind = "faithfulness"

    circuit: Float[Tensor, " example"]
    clean: Float[Tensor, " example"]
    empty: Float[Tensor, " example"]
    size: int
    n_edges: int
    metric: str
    unit: str = ""
    ablation: Ablation = "patch"
    groups: Int[Tensor, " example"] | None = None
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in ("circuit", "clean", "empty")}
        if self.groups is not None:
            parts["groups"] = self.groups
        shapes = {name: tuple(each.shape) for name, each in parts.items()}
        if len(set(shapes.values())) != 1 or self.circuit.ndim != 1 or not len(self.circuit):
            raise CircuitError(f"faithfulness needs one value of each kind an example; got shapes {shapes}")
        for name, each in parts.items():
            if bool(torch.isnan(each.double()).any()):
                raise CircuitError(f"the metric {self.metric!r} is NaN in {name}, so there is no faithfulness")

    # The two averagings

    @property
    def value(self) -> float:
        """The ratio of means; NaN where it is `undefined`."""
        return self._estimate("ratio of means")[0]

    @property
    def mean_of_ratios(self) -> float:
        """The mean over examples of each one's own ratio, without those `left_out`; NaN where all are."""
        return self._estimate("mean of ratios")[0]

    def interval(self, averaging: Averaging = "ratio of means", *, level: float = 0.95) -> Interval:
        """A bootstrap interval over examples, whole groups of them where pairs have groups; NaN where there is none.

        Bias-corrected and accelerated (Efron 1987). There is none of one example or group, nor where a draw may hold
        nothing that has a ratio.

        Raises:
            CircuitError: there is no such averaging.
        """
        _, low, high = self._estimate(averaging, level)
        return Interval(low, high)

    @property
    def per_example(self) -> Float[Tensor, " example"]:
        """Each example's own ratio; NaN where it is `left_out`."""
        empty = self.empty.double()
        ratios = (self.circuit.double() - empty) / (self.clean.double() - empty)
        return ratios.masked_fill(~self._there, torch.nan)

    @property
    def left_out(self) -> tuple[int, ...]:
        """The examples whose clean and empty runs hardly differ, so that a ratio of theirs says nothing.

        By less than 1 % of what they differ by on average: those that `Curve` leaves out too.
        """
        return tuple((~self._there).nonzero().flatten().tolist())

    @property
    def undefined(self) -> str | None:
        """Why there is no ratio of means, or None where there is one."""
        clean, empty = float(self.clean.double().mean()), float(self.empty.double().mean())
        if not alike(clean, empty):
            return None
        return f"the clean run and the empty circuit have the same mean {self.metric} ({clean:.4g})"

    @property
    def unsure(self) -> str | None:
        """Why a ratio says little: the clean run and the empty circuit may not differ at all on other examples."""
        apart = as_array(self.clean) - as_array(self.empty)
        _, low, high = self._resampled(lambda weights: (weights @ apart / weights.sum(1))[:, None], 0.95)
        if self.undefined is not None or not low <= 0 <= high:
            return None
        return (
            f"the clean run and the empty circuit differ by {apart.mean():.3g} (95 % interval {low:.3g} to "
            f"{high:.3g}), which may be nothing"
        )

    @cached_property
    def _there(self) -> Bool[Tensor, " example"]:
        return torch.from_numpy(have_ratios(as_array(self.clean) - as_array(self.empty)))

    def _estimate(self, averaging: Averaging, level: float = 0.95) -> tuple[float, float, float]:
        empty = as_array(self.empty)
        kept, whole = (as_array(self.circuit) - empty)[None], as_array(self.clean) - empty
        if averaging == "ratio of means":
            if self.undefined is not None:
                return (float("nan"),) * 3
            return self._resampled(ratio_of_means(kept, whole), level)
        if averaging != "mean of ratios":
            raise CircuitError(f"averaging is 'ratio of means' or 'mean of ratios', not {averaging!r}")
        return self._resampled(mean_of_ratios(kept, whole), level)

    def _resampled(self, statistic: Statistic, level: float) -> tuple[float, float, float]:
        groups = None if self.groups is None else self.groups.tolist()
        drawn = Resampling.of(len(self.circuit), groups, _DRAWS, self.seed, level)
        value, low, high = drawn.estimates(statistic)
        return float(value[0]), float(low[0]), float(high[0])

    # As a table, in words, on disk

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row an example: the metric of the circuit, the clean run and the empty circuit, and the ratio."""
        columns = {
            "example": range(len(self.circuit)),
            "circuit": as_array(self.circuit),
            "clean": as_array(self.clean),
            "empty": as_array(self.empty),
            "faithfulness": as_array(self.per_example),
        }
        if self.groups is not None:
            columns["group"] = as_array(self.groups).astype(int)
        return pd.DataFrame(columns)

    def __str__(self) -> str:
        circuit, clean, empty = (float(each.double().mean()) for each in (self.circuit, self.clean, self.empty))
        unit = f" {self.unit}" if self.unit else ""
        share = 100 * self.size / self.n_edges
        part = f"{share:.2g}" if share < 10 else f"{share:.0f}"
        of = f"A circuit of {self.size:,} of {self.n_edges:,} edges ({part} %), {_OUTSIDE[self.ablation]}"
        means = f"{self.metric} {circuit:.4g}{unit}, beside {clean:.4g} of the whole model and {empty:.4g} of no edge"
        if self.undefined is not None:
            return f"{of}: {means}; faithfulness is undefined, since {self.undefined}."
        told = f"{of}, keeps {self._told('ratio of means')} of what the model does: {means}."
        without = ""
        if self.left_out:
            some = ", ".join(map(str, self.left_out[:5])) + (", …" if len(self.left_out) > 5 else "")
            left_out = f"example{'s' if len(self.left_out) > 1 else ''} {some}"
            without = f" without {left_out}, where the whole model does hardly other than no edge"
        told += f" Example by example it keeps {self._told('mean of ratios')} on average{without}."
        return told if self.unsure is None else f"{told} But {self.unsure}."

    __repr__ = __str__

    def _told(self, averaging: Averaging) -> str:
        value, low, high = self._estimate(averaging)
        if np.isnan(value):
            return "no share"
        if np.isnan(low):
            return f"{round(100 * value)} % (no interval of {self._counted})"
        return f"{round(100 * value)} % (95 % interval {round(100 * low)} to {round(100 * high)}, {self._counted})"

    @property
    def _counted(self) -> str:
        n = len(self.circuit)
        told = f"{n} example{'s' if n > 1 else ''}"
        return told if self.groups is None else f"{told} in {len(set(self.groups.tolist()))} groups"


def faithfulness(
    model: Model,
    graph: Graph,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    ablation: Ablation = "patch",
    *,
    seed: int = 0,
    **settings: Unpack[RunSettings],
) -> Faithfulness:
    """Measure how much of what a model does a circuit keeps when it is run alone.

    Args:
        seed: of intervals.
        settings: align, reference, by_position, batch_size, budget and progress, as of `run_circuit`.

    The other arguments and the errors are those of `run_circuit`; see `Faithfulness` for what is made of the values.

    Source: Wang et al. 2022, arXiv 2211.00593; Hanna et al. 2024, arXiv 2403.17806; Mueller et al. 2025, arXiv
    2504.13151.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    >>> round(faithfulness(model, graph, pairs, progress=False).value, 3)
    1.0
    """
    graph.check_fits(model)
    runs = Runs.of(model, pairs, metric, ablation, **settings)
    circuit, empty = runs.measured(torch.stack([graph.members, torch.zeros_like(graph.members)]), "running the circuit")
    return Faithfulness(
        circuit=circuit,
        clean=runs.clean(),
        empty=empty,
        size=graph.size,
        n_edges=graph.layout.n_edges,
        metric=runs.metric.name,
        unit=runs.metric.unit,
        ablation=ablation,
        groups=runs.clusters,
        seed=seed,
        provenance=runs.provenance("circuits.faithfulness", graph, seed),
    )
