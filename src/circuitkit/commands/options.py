"""Options that several verbs have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from circuitkit.metrics import Metric
    from circuitkit.model import Model

MetricName = Literal[
    "logit_difference", "probability", "kl", "cross_entropy", "log_probability", "probability_difference"
]
Numbers = Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)]
Words = Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)]


def metric_of(name: MetricName, model: Model) -> Metric:
    """A metric by its name; that of greater-than reads years with the model's tokenizer.

    Raises:
        ValueError: the tokenizer does not split years as greater-than needs it.

    >>> metric_of("kl", ck.load("deductor-5k")).unit
    'nats'
    """
    from circuitkit.metrics import as_metric

    if name != "probability_difference":
        return as_metric(name)
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer, and probability_difference reads years with one")
    from circuitkit.tasks import greater_than

    return greater_than.probability_difference(model.tokenizer)
