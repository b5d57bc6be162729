"""A study: prompts and their answers, the runs without any cell that values are held against, and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric, Targets, as_metric
from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import AlignedPairs, Pairs, Reading
from circuitkit.random_sets import RandomSets
from circuitkit.records import provenance
from circuitkit.results import Baseline, Direction, Result, effects_of
from circuitkit.run.executor import Engine, logits_read, measure
from circuitkit.run.interventions import Intervention, Interventions, scale

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(eq=False)
class Study:
    """A model, its prompts, and what is measured on them.

    The runs without any cell take the way through attention that the cells take, since in half precision there is a
    difference between ways: so the first cells fix it, and all cells of a study go it.

    Attributes:
        model: the model.
        clean: the clean prompts.
        corrupt: the corrupt prompts; None where there are none.
        targets: the answers.
        metric: what is measured.
        direction: "denoise" changes the corrupt run, "noise" and "ablate" the clean one.
        groups: which prompts share a template.
    """

    model: Model
    clean: Tokens
    corrupt: Tokens | None
    targets: Targets
    metric: Metric
    direction: Direction
    groups: Int[Tensor, " example"] | None
    _through: frozenset[Site] | None = field(default=None, init=False, repr=False)
    _unchanged: Float[Tensor, " example"] | None = field(default=None, init=False, repr=False)
    _baseline: Baseline | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(
        cls,
        model: Model,
        clean: Tokens,
        targets: Targets,
        metric: Metric | Compute | str,
        direction: Direction,
        *,
        corrupt: Tokens | None = None,
        groups: Int[Tensor, " example"] | None = None,
    ) -> Study:
        """The study of some prompts."""
        return cls(model, clean, corrupt, targets, as_metric(metric), direction, groups)

    @classmethod
    def of_pairs(
        cls,
        model: Model,
        pairs: AlignedPairs,
        metric: Metric | Compute | str,
        direction: Direction,
    ) -> Study:
        """The study of pairs, between whose runs activations are moved.

        Raises:
            ValueError: the direction is neither "denoise" nor "noise".
        """
        if direction not in ("denoise", "noise"):
            raise ValueError(f"direction is 'denoise' or 'noise', not {direction!r}")
        return cls.of(
            model,
            pairs.clean,
            pairs.targets,
            metric,
            direction,
            corrupt=pairs.corrupt,
            groups=pairs.groups,
        )

    @classmethod
    def of_prompts(cls, model: Model, prompts: Prompts | Pairs, metric: Metric | Compute | str | None) -> Study:
        """The study of what the clean run loses: of pairs' clean prompts, or of prompts whose answers are the model's.

        The metric is by default the logit difference of pairs with a distractor, otherwise the KL from the clean run.
        """
        groups = None
        if isinstance(prompts, Pairs):
            aligned = prompts.on(model)
            clean, targets, groups = aligned.clean, aligned.targets, aligned.groups
        else:
            clean = model.tokens(prompts)
            targets = Targets(model.run(clean, logits_at=-1).logits.argmax(-1, keepdim=True))
        if metric is None:
            metric = metrics.kl if targets.distractor is None else metrics.logit_difference
        return cls.of(model, clean, targets, metric, "ablate", groups=groups)

    @property
    def base(self) -> Tokens:
        """The prompts of the run that cells change."""
        return self.corrupt if self.direction == "denoise" and self.corrupt is not None else self.clean

    @property
    def source(self) -> Tokens:
        """The prompts of the pairs' other run."""
        return self.clean if self.base is self.corrupt or self.corrupt is None else self.corrupt

    @property
    def tokens(self) -> Tokens:
        """The base prompts as the metric reads them: with the answers behind, where it reads those too."""
        return self.as_read(self.base)

    def as_read(self, prompts: Tokens) -> Tokens:
        """Prompts as the metric reads them."""
        return Reading.of(prompts, self.targets, self.metric).tokens

    def measured(self, cells: Sequence[Interventions], title: str, progress: bool) -> Float[Tensor, "cell example"]:
        """Every example's value under every cell.

        Raises:
            ValueError: the cells take another way through attention than those measured before, or the metric does not
                fit the targets.
        """
        self._go_the_way_of(cells)
        # The baseline is a cell that changes nothing, beside the others.
        values = measure(self.model, self.base, self.targets, self.metric, [*cells, ()], title=title, progress=progress)
        if self._unchanged is None:
            self._unchanged = values[-1]
        return values[:-1]

    @property
    def baseline(self) -> Baseline:
        """The values of the runs without any cell."""
        if self._baseline is None:
            if self._unchanged is None:
                self.measured([], "", progress=False)
            assert self._unchanged is not None  # measured
            ends = [
                self._unchanged
                if end is self.base
                else measure(self.model, end, self.targets, self.metric, [self._nothing], progress=False)[0]
                for end in (self.clean, self.corrupt)
                if end is not None
            ]
            self._baseline = Baseline(*ends)
        return self._baseline

    def beside(
        self,
        random: RandomSets,
        values: Float[Tensor, "set *cells example"],
        others: Float[Tensor, "other *cells example"],
    ) -> Float[Tensor, "set *cells draw"]:
        """The mean effects of the random sets beside each set, from the values of the sets and of the others drawn."""
        effects, of_others = (effects_of(each, self.baseline, self.direction).mean(-1) for each in (values, others))
        return random.controls(effects, of_others)

    def _go_the_way_of(self, cells: Sequence[Interventions]) -> None:
        """Fix where explicit attention is computed, and with it the clean run's logits if the metric reads those."""
        named = {each.site for cell in cells for each in cell if each.site.kind in ATTENTION_KINDS}
        through = frozenset(site.place for each in named for site in self.model.sites(each))
        if self._through is not None:
            if through != self._through:
                raise ValueError("cells that change attention in other layers than those before: measure them together")
            return
        self._through = through
        if self.metric.needs_clean:
            # An engine has a way of its own, for cells and for these logits.
            own_way = isinstance(self.model, Engine) or not through
            with nullcontext() if own_way else self.model.intervene(self._nothing):
                logits = logits_read(self.model, self.clean, self.targets, self.metric)
            self.targets = with_fields(self.targets, clean_logits=logits)

    @property
    def _nothing(self) -> list[Intervention]:
        """What changes nothing where the cells change attention."""
        return [scale(place, 1.0) for place in sorted(self._through or (), key=str)]

    def result(
        self,
        per_example: Float[Tensor, "*cells example"],
        axes: tuple[str, ...],
        title: str,
        seed: int,
        *,
        coordinates: Mapping[str, tuple[int | str, ...]] | None = None,
        labels: Mapping[str, tuple[str, ...]] | None = None,
        baseline: Baseline | None = None,
        controls: Float[Tensor, "*cells draw"] | None = None,
        **told: Any,
    ) -> Result:
        """Values as a result, beside the study's own baseline unless another is given; `told` is its provenance."""
        prompts = [self.clean] if self.corrupt is None else [self.clean, self.corrupt]
        return Result(
            per_example=per_example,
            axes=axes,
            baseline=baseline or self.baseline,
            direction=self.direction,
            metric=self.metric.name,
            unit=self.metric.unit,
            title=f"{title}, {self.model.name}",
            coordinates=coordinates or {},
            labels=labels or {},
            groups=self.groups,
            controls=controls,
            seed=seed,
            provenance=provenance(
                model_name=self.model.name,
                revision=self.model.revision,
                data=[*(each.ids for each in prompts), self.targets.answer],
                seed=seed,
                direction=self.direction,
                **told,
            ),
        )
