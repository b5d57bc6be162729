"""What a study measures: one number per example, read from the logits under a cell.

A `Metric` says which logits it reads, so that an executor asks the model for those alone. Any plain function
`(logits, targets) -> [batch]` is a metric too: see `as_metric`. All values are computed in fp32 or wider, and
gradients flow through them.

A row's value depends on that row of the logits and of the targets alone: examples come in parts, and the rows of many
cells stand in one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

PADDING = -100
"""The id that fills the rows of `Targets` behind a shorter answer, as in transformers' labels."""

Positions = Literal["last", "answer"]
"""`last`: the row's last real token, `[batch, vocab]`. `answer`: the tokens that predict the answer's tokens,
`[batch, answer_len, vocab]`, where the prompt runs on with all answer tokens but the last."""


@dataclass(frozen=True)
class Targets:
    """What the logits of a batch are held against.

    `answer` and `distractor` are token ids, filled with `PADDING` behind shorter rows; `clean_logits` are
    what the clean run gave where the metric reads; `answer_text` names the answers in errors.

    Raises ValueError where shapes disagree or an answer is empty.

    >>> Targets(answer=torch.tensor([[5], [7]]), distractor=torch.tensor([[6], [8]])).answer.shape
    torch.Size([2, 1])
    """

    answer: Int[Tensor, "batch answer_len"]
    distractor: Int[Tensor, "batch distractor_len"] | None = None
    clean_logits: Float[Tensor, "batch *reads vocab"] | None = None
    answer_text: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("answer", "distractor"):
            ids = getattr(self, name)
            if ids is None:
                continue
            if ids.ndim != 2 or ids.is_floating_point():
                raise ValueError(
                    f"{name} must be token ids of shape [batch, {name}_len], got {ids.dtype} of shape "
                    f"{tuple(ids.shape)}; one token per example is ids[:, None]"
                )
            if ids.shape[1] == 0 or bool((ids[:, 0] == PADDING).any()):
                raise ValueError(f"{name} has an example without tokens; give every example at least one")
        lengths = {f.name: len(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) is not None}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"targets differ in their number of examples: {lengths}")

    def __len__(self) -> int:
        return len(self.answer)

    def select(self, rows: Int[Tensor, " rows"]) -> Targets:
        """Give the targets of some rows, in that order; a row may be named more than once.

        >>> Targets(answer=torch.tensor([[5], [7]])).select(torch.tensor([1, 1, 0])).answer.flatten().tolist()
        [7, 7, 5]
        """
        texts = self.answer_text
        return Targets(
            answer=self.answer[rows.to(self.answer.device)],
            distractor=None if self.distractor is None else self.distractor[rows.to(self.distractor.device)],
            clean_logits=None if self.clean_logits is None else self.clean_logits[rows.to(self.clean_logits.device)],
            answer_text=None if texts is None else tuple(texts[int(row)] for row in rows),
        )

    def to(self, device: torch.device | str) -> Targets:
        """Give the same targets on another device.

        >>> Targets(answer=torch.tensor([[5]])).to("cpu").answer.device.type
        'cpu'
        """
        return Targets(
            answer=self.answer.to(device),
            distractor=None if self.distractor is None else self.distractor.to(device),
            clean_logits=None if self.clean_logits is None else self.clean_logits.to(device),
            answer_text=self.answer_text,
        )

    def describe(self, row: int) -> str:
        """Name one example's answer, by its text where that is known.

        >>> Targets(answer=torch.tensor([[5, 9]]), answer_text=("a cat",)).describe(0)
        "'a cat' (tokens [5, 9])"
        """
        ids = [int(i) for i in self.answer[row] if i != PADDING]
        return f"tokens {ids}" if self.answer_text is None else f"{self.answer_text[row]!r} (tokens {ids})"


_ROWS_APART = (
    "a row's value may depend on nothing but that row, since rows of other examples and cells stand in one batch: "
    "take no mean over the batch, and read what an example needs from targets (answer, distractor), not from a tensor "
    "of your own with a row an example"
)

Compute = Callable[[Float[Tensor, "batch *reads vocab"], Targets], Float[Tensor, " batch"]]


@dataclass(frozen=True)
class Metric:
    """A number per example, and the logits that it reads.

    `positions` tells which logits to ask the model for, `needs_clean` whether `Targets.clean_logits` must be
    there, `unit` what a value is counted in, `higher_is_better` whether a model that does worse scores lower, as it
    does but under a loss or a divergence.

    Calling it takes logits `[batch, vocab]` (`positions="last"`) or `[batch, answer_len, vocab]`
    (`positions="answer"`) and gives `[batch]`, in fp32 or wider. Each row's value is of that row alone: no mean over
    the batch, and no tensor from outside that has a row an example. Raises ValueError, by the metric's name, where
    the logits' shape does not fit, where a value is NaN or of another shape than `[batch]`, or where, once tried on
    the first rows that it is given, the first one's value differs from what it is without the others.

    >>> top = Metric("top logit", lambda logits, targets: logits.amax(-1), unit="logits")
    >>> top(torch.tensor([[1.0, 3.0]]), Targets(answer=torch.tensor([[0]]))).tolist()
    [3.0]
    """

    name: str
    compute: Compute
    positions: Positions = "last"
    needs_clean: bool = False
    unit: str = ""
    higher_is_better: bool = True
    _tried: list[bool] = field(default_factory=list, init=False, repr=False, compare=False)

    def __call__(self, logits: Float[Tensor, "batch *reads vocab"], targets: Targets) -> Float[Tensor, " batch"]:
        """Measure every example of a batch."""
        if self.needs_clean and targets.clean_logits is None:
            raise ValueError(f"metric {self.name!r} compares with the clean run; give Targets its clean_logits")
        shaped = self._shaped(logits, targets)
        values = self._computed(shaped, targets)
        if not isinstance(values, Tensor) or values.shape != (len(targets),):
            got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"metric {self.name!r} must give one value per example, a tensor of shape [{len(targets)}]; "
                f"it gave {got}"
            )
        if bool(torch.isnan(values).any()):
            rows = torch.isnan(values).nonzero().flatten().tolist()
            raise ValueError(
                f"metric {self.name!r} is NaN for examples {rows[:8]} of {len(targets)}; look at the logits "
                "there (an overflow in half precision, or a row masked everywhere)"
            )
        if len(targets) > 1 and not self._tried:
            self._check_rows_apart(shaped, targets, values)
            self._tried.append(True)
        return values

    def _computed(self, logits: Tensor, targets: Targets) -> Tensor:
        try:
            return self.compute(logits, targets)
        except (IndexError, RuntimeError) as error:
            # Whoever runs out of memory goes on with fewer rows.
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise
            raise ValueError(
                f"metric {self.name!r} fails on {len(targets)} rows of logits {tuple(logits.shape)} ({error}); "
                f"{_ROWS_APART}"
            ) from error

    def _check_rows_apart(self, logits: Tensor, targets: Targets, values: Tensor) -> None:
        with torch.no_grad():
            alone = self._computed(logits[:1], targets.select(torch.zeros(1, dtype=torch.long)))
            first = values[:1].detach()
            rounding = 1e-6 * max(float(logits[0].abs().nan_to_num(0.0, 0.0, 0.0).max()), float(first.abs()))
            if alone.shape != first.shape or not torch.allclose(alone, first, rtol=1e-4, atol=rounding):
                raise ValueError(
                    f"metric {self.name!r} gives the first example {first.tolist()} beside {len(targets) - 1} others "
                    f"and {alone.tolist()} alone; {_ROWS_APART}"
                )

    def _shaped(self, logits: Tensor, targets: Targets) -> Tensor:
        wanted = f"[batch={len(targets)}, vocab]"
        if self.positions == "answer":
            width = targets.answer.shape[1]
            wanted = f"[batch={len(targets)}, answer_len={width}, vocab]"
            if logits.ndim == 2 and width == 1:
                logits = logits[:, None]
            fits = logits.ndim == 3 and logits.shape[:2] == (len(targets), width)
        else:
            if logits.ndim == 3 and logits.shape[1] == 1:
                logits = logits[:, 0]
            fits = logits.ndim == 2 and len(logits) == len(targets)
        if not fits:
            raise ValueError(f"metric {self.name!r} reads logits {wanted}; got shape {tuple(logits.shape)}")
        for ids in (targets.answer, targets.distractor):
            if ids is not None and int(ids.max()) >= logits.shape[-1]:
                raise ValueError(
                    f"metric {self.name!r}: token {int(ids.max())} lies outside the model's vocabulary of "
                    f"{logits.shape[-1]}; were the answers made with this model's tokenizer?"
                )
        return _wide(logits)


def as_metric(metric: Metric | Compute | str) -> Metric:
    """Take a metric, its name, or a plain function `(logits [batch, vocab], targets) -> [batch]` as a metric.

    A plain function reads the last real token's logits; wrap it in `Metric(name, function,
    positions="answer")` where it reads the whole answer's. It computes each row from that row alone: see `Metric`.

    Raises ValueError for an unknown name.

    >>> as_metric("kl").needs_clean, as_metric(lambda logits, targets: logits[:, 0]).positions
    (True, 'last')
    """
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}; there are {', '.join(METRICS)}")
        return METRICS[metric]
    return Metric(getattr(metric, "__name__", type(metric).__name__), metric)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _single(ids: Tensor, metric: str, targets: Targets, which: str) -> Tensor:
    """The one token of each row; several tokens are refused, since their first alone is another question."""
    several = (ids[:, 1:] != PADDING).any(-1).nonzero().flatten().tolist()
    if several:
        row = several[0]
        ids_there = [int(i) for i in ids[row] if i != PADDING]
        named = targets.describe(row) if which == "answer" else f"tokens {ids_there}"
        raise ValueError(
            f"metric {metric!r} reads one token, but the {which} of example {row}, {named}, has "
            f"{len(ids_there)}; use circuitkit.metrics.log_probability, or an {which} of one token"
        )
    return ids[:, :1]


def _logit_difference(logits: Tensor, targets: Targets) -> Tensor:
    """The answer's logit less the distractor's, at the last token, in logits.

    Takes `[batch, vocab]`, gives `[batch]`. Raises ValueError without a distractor, or where answer or
    distractor has several tokens. Source: Wang et al. 2022, arXiv:2211.00593, section 3.

    >>> targets = Targets(answer=torch.tensor([[1]]), distractor=torch.tensor([[0]]))
    >>> logit_difference(torch.tensor([[0.5, 2.0]]), targets).tolist()
    [1.5]
    """
    if targets.distractor is None:
        raise ValueError(
            "metric 'logit_difference' needs a distractor beside the answer; give one, or use "
            "circuitkit.metrics.log_probability"
        )
    answer = _single(targets.answer, "logit_difference", targets, "answer")
    distractor = _single(targets.distractor, "logit_difference", targets, "distractor")
    return (logits.gather(-1, answer) - logits.gather(-1, distractor))[:, 0]


def _probability(logits: Tensor, targets: Targets) -> Tensor:
    """The probability of the answer's one token at the last token, between 0 and 1.

    Takes `[batch, vocab]`, gives `[batch]`. Raises ValueError where an answer has several tokens.

    >>> probability(torch.tensor([[0.0, 0.0]]), Targets(answer=torch.tensor([[1]]))).tolist()
    [0.5]
    """
    return logits.softmax(-1).gather(-1, _single(targets.answer, "probability", targets, "answer"))[:, 0]


def _kl(logits: Tensor, targets: Targets) -> Tensor:
    """KL(clean || patched) of the next token in nats, summed over the vocabulary and not averaged.

    Takes `[batch, vocab]`, gives `[batch]`, 0 where the run equals the clean one. Needs
    `Targets.clean_logits` of the same shape. Its gradient vanishes at the clean point.

    >>> targets = Targets(answer=torch.tensor([[0]]), clean_logits=torch.tensor([[0.0, 0.0]]))
    >>> round(float(kl(torch.tensor([[0.75, 0.25]]).log(), targets)), 4)
    0.1438
    """
    clean = targets.clean_logits
    assert clean is not None  # Metric.__call__ has refused targets without
    clean = clean[:, 0] if clean.ndim == 3 and clean.shape[1] == 1 else clean
    if clean.shape != logits.shape:
        raise ValueError(
            f"metric 'kl' needs clean_logits of the logits' shape {tuple(logits.shape)}; got {tuple(clean.shape)}"
        )
    log_clean = _wide(clean).to(logits.device).log_softmax(-1)
    # A token that the clean run rules out (-inf) adds nothing: 0 log 0 = 0, where floats would give NaN.
    impossible = log_clean == -torch.inf
    log_ratio = (log_clean - logits.log_softmax(-1).masked_fill(impossible, 0.0)).masked_fill(impossible, 0.0)
    return (log_clean.exp() * log_ratio).sum(-1)


def _answer_log_probabilities(logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    real = targets.answer != PADDING
    tokens = targets.answer.masked_fill(~real, 0)[..., None]
    return logits.log_softmax(-1).gather(-1, tokens)[..., 0].masked_fill(~real, 0.0), real


def _log_probability(logits: Tensor, targets: Targets) -> Tensor:
    """The log-probability in nats of the whole answer, summed over its tokens.

    Takes `[batch, answer_len, vocab]`, the logits that predict each answer token after the prompt and the
    tokens before it; gives `[batch]`, at most 0.

    >>> targets = Targets(answer=torch.tensor([[1, 0]]))
    >>> round(float(log_probability(torch.zeros(1, 2, 4), targets)), 4)  # 2 log(1/4)
    -2.7726
    """
    return _answer_log_probabilities(logits, targets)[0].sum(-1)


def _cross_entropy(logits: Tensor, targets: Targets) -> Tensor:
    """The language-model loss on the answer: minus its log-probability, in nats per answer token.

    Takes `[batch, answer_len, vocab]`, gives `[batch]`, at least 0. It is a loss: it rises as the answer gets
    less likely.

    >>> round(float(cross_entropy(torch.zeros(1, 2, 4), Targets(answer=torch.tensor([[1, 0]])))), 4)  # log 4
    1.3863
    """
    log_probabilities, real = _answer_log_probabilities(logits, targets)
    return -log_probabilities.sum(-1) / real.sum(-1)


logit_difference = Metric("logit_difference", _logit_difference, unit="logits")
probability = Metric("probability", _probability)
kl = Metric("kl", _kl, needs_clean=True, unit="nats", higher_is_better=False)
cross_entropy = Metric(
    "cross_entropy", _cross_entropy, positions="answer", unit="nats per token", higher_is_better=False
)
log_probability = Metric("log_probability", _log_probability, positions="answer", unit="nats")

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (logit_difference, probability, kl, cross_entropy, log_probability)
}
for _metric in METRICS.values():
    # help() and editors read an object's own __doc__, which a frozen dataclass has no field for.
    object.__setattr__(_metric, "__doc__", _metric.compute.__doc__)
