"""Options that several verbs have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from circuitkit.metrics import Metric
    from circuitkit.model import Model

MetricName = Literal[
    "logit_difference", "probability", "kl", "cross_entropy", "log_probability", "probability_difference"
]
Numbers = Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)]
Words = Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)]


def assigned(words: Sequence[str], option: str, form: str, such_as: str) -> dict[str, str]:
    """What an option's words say, each written NAME=VALUE.

    Args:
        words: the words.
        option: the option, for the message.
        form: what name and value are called there, such as PART=NAME.
        such_as: a word that is right.

    Raises:
        ValueError: a word is not so written, or gives a name that another has given.

    >>> assigned(["aime24=own.jsonl"], "--questions", "TASK=PATH", "aime24=own.jsonl")
    {'aime24': 'own.jsonl'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals and value) or name in found:
            raise ValueError(
                f"{option} is written {form}, such as {such_as}, each {form.split('=')[0]} once; not {word!r}"
            )
        found[name] = value
    return found


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
