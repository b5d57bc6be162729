"""What ablations are measured on: the clean prompts, their answers, and the clean run's own values."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float, Int
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric, Targets, as_metric
from circuitkit.model.site import Site, SiteError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import Pairs, Reading
from circuitkit.records import provenance
from circuitkit.results import Baseline, Result
from circuitkit.run.executor import logits_read, measure
from circuitkit.run.interventions import Interventions

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Heads = Literal["all"] | Iterable[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Study:
    """A model, its clean prompts, and what is measured on them.

    Attributes:
        model: the model.
        clean: the prompts.
        targets: their answers.
        metric: what is measured.
        groups: which prompts share a template.
        baseline: the clean run's values.
    """

    model: Model
    clean: Tokens
    targets: Targets
    metric: Metric
    groups: Int[Tensor, " example"] | None
    baseline: Baseline

    @classmethod
    def of(cls, model: Model, prompts: Prompts | Pairs, metric: Metric | Compute | str | None) -> Study:
        """The study of pairs' clean prompts, or of prompts whose answers are the model's own."""
        clean, targets, groups = _read(model, prompts)
        if metric is None:
            metric = metrics.kl if targets.distractor is None else metrics.logit_difference
        metric = as_metric(metric)
        if metric.needs_clean:
            targets = with_fields(targets, clean_logits=logits_read(model, clean, targets, metric))
        baseline = Baseline(measure(model, clean, targets, metric, [[]], progress=False)[0])
        return cls(model, clean, targets, metric, groups, baseline)

    @property
    def tokens(self) -> Tokens:
        """The prompts as the metric reads them: with the answers behind, where it reads those too."""
        return Reading.of(self.clean, self.targets, self.metric).tokens

    def measured(self, cells: Sequence[Interventions], title: str, progress: bool) -> Float[Tensor, "cell example"]:
        """Every example's value under every cell."""
        return measure(self.model, self.clean, self.targets, self.metric, cells, title=title, progress=progress)

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
        return Result(
            per_example=per_example,
            axes=axes,
            baseline=self.baseline,
            direction="ablate",
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
                data=[self.clean.ids, self.targets.answer],
                seed=seed,
                **told,
            ),
        )


def _read(model: Model, prompts: Prompts | Pairs) -> tuple[Tokens, Targets, Tensor | None]:
    if isinstance(prompts, Pairs):
        aligned = prompts.on(model)
        return aligned.clean, aligned.targets, aligned.groups
    tokens = model.tokens(prompts)
    likeliest = model.run(tokens, logits_at=-1).logits.argmax(-1, keepdim=True)
    return tokens, Targets(likeliest), None


def head_sites(model: Model, heads: Heads) -> list[Site]:
    """The `z` sites of heads, each once, in the order in which they are first named.

    Raises:
        SiteError: a head does not exist, or heads are not named as `(layer, head)` pairs.
    """
    return list(dict.fromkeys(named_sites(model, heads)))


def named_sites(model: Model, heads: Heads) -> list[Site]:
    """The `z` sites of heads as they are named, one that is named twice twice; errors are those of `head_sites`."""
    if isinstance(heads, str) and heads == "all":
        named = [(layer, head) for layer in model.layers_with("z") for head in range(model.n_heads(layer))]
    else:
        named = _named(heads)
    return [model.sites(Site("z", layer=layer, head=head))[0] for layer, head in named]


def _named(heads: Any) -> list[tuple[int, int]]:
    wanted = 'heads are (layer, head) pairs, such as [(2, 1), (3, 0)], or "all"'
    if isinstance(heads, str):
        raise SiteError(f"{wanted}, not {heads!r}")
    named = []
    try:
        for each in heads:
            layer, head = each
            named.append((operator.index(layer), operator.index(head)))
    except (TypeError, ValueError) as error:
        raise SiteError(f"{wanted}, not {heads!r}") from error
    return named


def head_of(site: Site) -> tuple[int, int]:
    """A head's site as `(layer, head)`."""
    assert site.layer is not None and site.head is not None  # head_sites names both
    return site.layer, site.head


def head_counts(model: Model) -> list[int]:
    """Heads in each layer; 0 where a layer has none."""
    having = set(model.layers_with("z"))
    return [model.n_heads(layer) if layer in having else 0 for layer in range(model.n_layers)]
