"""What the numbers of a graph mean, kept with them wherever they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from circuitkit.circuits.errors import CircuitError

By = Literal["absolute", "signed"]
Rule = Literal["left", "right", "midpoint"]
OverExamples = Literal["mean", "mean-absolute"]
OverPositions = Literal["sum", "sum-absolute"]
Positive = Literal["corrupting lowers the metric", "corrupting raises the metric", "unknown"]


@dataclass(frozen=True)
class Convention:
    """How scores were made, and what their sign says.

    Attributes:
        method: of attribution ("eap", "eap-ig", "exact", …).
        metric, unit: what was measured.
        higher_is_better: whether more of the metric is more of the behaviour.
        steps, rule: of integrated gradients; None where there are none.
        examples: how examples were joined.
        positions: how positions were joined.
        positive: what a score above zero says.

    Raises:
        CircuitError: the rule, a way to join or what is positive is none of those that there are.

    >>> Convention("eap", "logit_difference").positive
    'corrupting lowers the metric'
    """

    method: str
    metric: str
    unit: str = ""
    higher_is_better: bool = True
    steps: int | None = None
    rule: Rule | None = None
    examples: OverExamples = "mean"
    positions: OverPositions = "sum"
    positive: Positive = "corrupting lowers the metric"

    def __post_init__(self) -> None:
        for name, ways in (("examples", OverExamples), ("positions", OverPositions), ("positive", Positive)):
            _check_one_of(name, getattr(self, name), get_args(ways))
        _check_one_of("rule", self.rule, (*get_args(Rule), None))

    @property
    def magnitudes(self) -> bool:
        """Whether scores are magnitudes, which have no sign."""
        return self.examples == "mean-absolute" or self.positions == "sum-absolute"

    def helpful(self, scores: Tensor) -> Tensor:
        """Scores turned so that more is more helpful to the behaviour.

        Raises:
            CircuitError: nobody knows what the sign says, or scores are magnitudes.

        >>> import torch
        >>> Convention("eap", "kl", higher_is_better=False).helpful(torch.tensor([-2.0])).tolist()
        [2.0]
        """
        if self.positive == "unknown":
            raise CircuitError(
                "what a positive score says is not known of this graph, so edges cannot be taken by sign: choose "
                "by='absolute', or name positive= where the file is read"
            )
        if self.magnitudes:
            raise CircuitError("these scores are magnitudes and have no sign: choose by='absolute'")
        lowers = self.positive == "corrupting lowers the metric"
        return scores if lowers == self.higher_is_better else -scores

    def strengths(self, scores: Tensor, by: By) -> Tensor:
        """What edges are ranked by, most first: the score's magnitude, or how helpful it is.

        Raises:
            CircuitError: by neither, or by a sign that is not known.

        >>> import torch
        >>> Convention("eap", "logit_difference").strengths(torch.tensor([-2.0]), "absolute").tolist()
        [2.0]
        """
        if by == "absolute":
            return scores.abs()
        if by == "signed":
            return self.helpful(scores)
        raise CircuitError(f"edges are taken by='absolute' or by='signed', not {by!r}")

    def __str__(self) -> str:
        steps = "" if self.steps is None else f", {self.steps} steps" + ("" if self.rule is None else f" ({self.rule})")
        joined = f"{self.examples} over examples, {self.positions} over positions"
        return f"{self.method} of {self.metric}{steps}; {joined}; positive: {self.positive}"


def _check_one_of(name: str, given: object, ways: tuple[object, ...]) -> None:
    if given not in ways:
        raise CircuitError(f"{name} of a convention is {' or '.join(map(repr, ways))}, not {given!r}")
