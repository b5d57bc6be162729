"""A study: prompts and their answers, the runs without any cell that values are held against, and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric, Targets, as_metric
from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import AlignedPairs, Pairs, Reading
from circuitkit.records import provenance
from circuitkit.results import Baseline, Direction, Result
from circuitkit.run.executor import logits_read, measure
from circuitkit.run.interventions import Interventions, scale

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False)
class Study:
    """A model, its prompts, and what is measured on them.

    Attributes:
        model: the model.
        clean: the clean prompts.
        corrupt: the corrupt prompts; None where there are none.
        targets: the answers.
        metric: what is measured.
        direction: "denoise" changes the corrupt run, "noise" and "ablate" the clean one.
        groups: which prompts share a template.
        baseline: the values of the runs without any cell.
    """

    model: Model
    clean: Tokens
    corrupt: Tokens | None
    targets: Targets
    metric: Metric
    direction: Direction
    groups: Int[Tensor, " example"] | None
    baseline: Baseline

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
        through: Sequence[Site] = (),
    ) -> Study:
        """The study of some prompts, whose runs without any cell are measured here.

        Args:
            through: whole sites that cells will change; where these lie within attention, the baseline takes the same
                way through it.
        """
        metric = as_metric(metric)
        if metric.needs_clean:
            targets = with_fields(targets, clean_logits=logits_read(model, clean, targets, metric))
        nothing = [scale(place, 1.0) for place in through if place.kind in ATTENTION_KINDS]
        ends = [end for end in (clean, corrupt) if end is not None]
        values = (measure(model, end, targets, metric, [nothing], progress=False)[0] for end in ends)
        return cls(model, clean, corrupt, targets, metric, direction, groups, Baseline(*values))

    @classmethod
    def of_pairs(
        cls,
        model: Model,
        pairs: AlignedPairs,
        metric: Metric | Compute | str,
        direction: Direction,
        through: Sequence[Site] = (),
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
            through=through,
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
        """Every example's value under every cell."""
        return measure(self.model, self.base, self.targets, self.metric, cells, title=title, progress=progress)

    def result(
        self,
        per_example: Float[Tensor, "*cells example"],
        axes: tuple[str, ...],
        title: str,
        seed: int,
        *,
        coordinates: Mapping[str, tuple[int | str, ...]] | None = None,
        labels: Mapping[str, tuple[str, ...]] | None = None,
        **told: Any,
    ) -> Result:
        """Values as a result; `told` goes into its provenance."""
        prompts = [self.clean] if self.corrupt is None else [self.clean, self.corrupt]
        return Result(
            per_example=per_example,
            axes=axes,
            baseline=self.baseline,
            direction=self.direction,
            metric=self.metric.name,
            unit=self.metric.unit,
            title=f"{title}, {self.model.name}",
            coordinates=coordinates or {},
            labels=labels or {},
            groups=self.groups,
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
