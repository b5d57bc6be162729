"""Options that the studies of `circuitkit circuit` share: how edges are scored, and which of them are the circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.options import MetricName

if TYPE_CHECKING:
    from circuitkit.circuits.evaluating.choosing import Choice
    from circuitkit.pairs import Pairs

SCORES = Group("Scores of edges", sort_key=0)
CIRCUIT = Group("Which edges are the circuit", sort_key=1)
MEASURES = Group("What is measured of it", sort_key=2)
Ablation = Annotated[Literal["patch", "mean", "zero"], Parameter(group=MEASURES)]


@Parameter(name="*")
@dataclass(frozen=True)
class Scoring:
    """How each edge gets its score, the same for every study that makes a graph."""

    method: Annotated[
        Literal["eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "eap-qk", "exact"], Parameter(group=SCORES)
    ] = "eap-ig"
    """eap: one gradient, at the clean run. eap-ig: gradients along the way from corrupt to clean embeddings.
    eap-ig-activations: along the way of each activation. clean-corrupted: at both ends. eap-qk: queries and keys with
    the softmax recomputed. exact: each edge patched by itself, slow, the oracle of the others."""

    steps: Annotated[int, Parameter(group=SCORES)] = 5
    """Of integrated gradients: how many points along the way."""

    rule: Annotated[Literal["left", "right", "midpoint"], Parameter(group=SCORES)] = "left"
    """Of integrated gradients: which points. left: the corrupt end and not the clean one, as the reference code; right:
    the other way round, as the paper; midpoint: between both."""

    examples: Annotated[Literal["mean", "mean-absolute"], Parameter(group=SCORES)] = "mean"
    """How examples are joined: the mean of scores, or of their magnitudes."""

    positions: Annotated[Literal["sum", "sum-absolute"], Parameter(group=SCORES)] = "sum"
    """How positions are joined: the sum of scores, or of their magnitudes."""

    batch_size: Annotated[int | None, Parameter(group=SCORES)] = None
    """How many pairs are read at once; as many as memory allows if not given."""

    def settings(self) -> dict[str, Any]:
        """What `circuitkit.circuits.attribute` takes.

        Raises:
            ValueError: there is no step, or no pair in a batch.

        >>> Scoring("eap").settings()["method"]
        'eap'
        """
        if self.steps < 1:
            raise ValueError(f"--steps {self.steps} integrates nothing: give 1 or more, such as 5")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"--batch-size {self.batch_size} reads nothing: give 1 or more")
        return {
            "method": self.method,
            "steps": self.steps,
            "rule": self.rule,
            "examples": self.examples,
            "positions": self.positions,
            "batch_size": self.batch_size,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class Selection:
    """Which edges of a graph are the circuit, the same for every study that cuts one out."""

    top: Annotated[int | None, Parameter(group=CIRCUIT)] = None
    """So many of the strongest edges."""

    share: Annotated[float | None, Parameter(group=CIRCUIT)] = None
    """This share of all edges, the strongest, such as 0.05, which it is if nothing else is given."""

    threshold: Annotated[float | None, Parameter(group=CIRCUIT)] = None
    """All edges of at least this strength, in the metric's unit."""

    by: Annotated[Literal["absolute", "signed"], Parameter(group=CIRCUIT)] = "absolute"
    """Strength. absolute: the score's magnitude. signed: how much the edge helps, so that harmful ones come last."""

    select: Annotated[Literal["top", "greedy"], Parameter(group=CIRCUIT)] = "top"
    """top: the strongest edges, wherever they are. greedy: grown backwards from the logits, next the strongest edge
    into what is in already."""

    prune: Annotated[bool, Parameter(group=CIRCUIT)] = True
    """Drop edges that lie on no way from the input to the logits."""

    def checked(self) -> Selection:
        """The selection itself.

        Raises:
            ValueError: several of --top, --share and --threshold are given, or one of them selects nothing.

        >>> Selection(top=3, share=0.1).checked()
        Traceback (most recent call last):
        ...
        ValueError: --top, --share and --threshold each say which edges: give one of them
        """
        if sum(each is not None for each in (self.top, self.share, self.threshold)) > 1:
            raise ValueError("--top, --share and --threshold each say which edges: give one of them")
        if self.top is not None and self.top < 1:
            raise ValueError(f"--top {self.top} selects nothing: give 1 or more")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"--share {self.share} is no share of the edges: give one between 0 and 1, such as 0.05")
        if self.threshold is not None and self.select == "greedy":
            raise ValueError("--select greedy grows to a number of edges: give --top or --share, not --threshold")
        return self

    @property
    def named(self) -> bool:
        """Whether edges are selected by a number, a share or a threshold that was given."""
        return any(each is not None for each in (self.top, self.share, self.threshold))

    def choice(self, n_edges: int) -> Choice:
        """The rule, for a graph of so many edges.

        >>> Selection(share=0.1).choice(262).n
        26
        """
        from circuitkit.circuits.evaluating.choosing import Choice

        share = 0.05 if self.share is None else self.share
        n = None if self.threshold is not None else self.top or max(1, int(share * n_edges))
        return Choice(n, self.threshold, self.by, self.select, self.prune)


def metric_name(metric: MetricName | None, pairs: Pairs) -> MetricName:
    """The metric that is named, or that of the pairs: the logit difference where they have distractors, else the KL."""
    return metric or ("kl" if pairs.distractor is None else "logit_difference")
