"""Distillation: a smaller model learns the whole distribution that a larger one of the same vocabulary gives a token.

Source: Hinton et al. 2015 (arXiv 1503.02531) for the loss; Kim & Rush 2016 (arXiv 1606.07947) for whole responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.training.errors import TrainingError
from circuitkit.training.losses import NO_LOSS

if TYPE_CHECKING:
    from circuitkit.model import Model


def divergences(
    student: Float[Tensor, "token vocab"], teacher: Float[Tensor, "token vocab"], temperature: float = 1.0
) -> Float[Tensor, " token"]:
    """KL(teacher ‖ student) of each token, in nats, of logits divided by a temperature, times its square.

    The square keeps the gradient's size the same at every temperature (Hinton et al. 2015).

    >>> logits = torch.tensor([[0.0, 1.0]])
    >>> divergences(logits, logits).item(), divergences(logits, -logits).item() > 0
    (0.0, True)
    """
    ours, theirs = (F.log_softmax(logits.float() / temperature, dim=-1) for logits in (student, teacher))
    # The two sums that are 1 each cancel what rounding of the logarithms does to the first, which is of second order.
    taught = theirs.exp()
    return (taught * (theirs - ours) - taught + ours.exp()).sum(-1) * temperature**2


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model that another learns from, in eval mode, without gradients.

    The loss of a token is `(1 − hard) · T² · KL(teacher ‖ student) + hard · −log p(label)`, and a batch's its mean over
    the tokens that carry a loss. Where one of the two has more logits than the other (embeddings that are padded to a
    round number), those that only one has are left out of both distributions.

    Attributes:
        model: the teacher.
        temperature: T, what both models' logits are divided by.
        hard: the share of the usual loss on the labels, from 0 to 1.

    Raises:
        TrainingError: a setting is out of its range.
    """

    model: Model
    temperature: float = 1.0
    hard: float = 0.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise TrainingError(f"the temperature of distillation is {self.temperature}: give more than 0")
        if not 0 <= self.hard <= 1:
            raise TrainingError(f"the share of the hard loss is {self.hard}: give a number from 0 to 1")
        if self.hard == 1:
            raise TrainingError("with a hard share of 1 nothing comes from the teacher: train by supervised instead")

    def ready(self, student: Model) -> None:
        """Put the teacher on the student's device, in eval mode and frozen, where the two share a vocabulary.

        Raises:
            TrainingError: they do not, or they are one model; what differs is named.
        """
        check_same_vocabulary(student, self.model)
        if self.model.hf is student.hf:
            raise TrainingError(f"{student.name} is to learn from itself: load the teacher apart")
        self.model.hf.eval().requires_grad_(False)
        if getattr(self.model.hf, "hf_device_map", None) is None:
            self.model.hf.to(student.device)

    def loss(
        self,
        logits: Float[Tensor, "batch position vocab"],
        inputs: Mapping[str, Tensor],
        n_tokens: Tensor | int | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of a batch, in nats a token.

        Args:
            logits: the student's.
            inputs: what both models read, with "labels" (−100 where a token carries no loss).
            n_tokens: what the sum over tokens is divided by; how many of the batch carry a loss, if None.

        Raises:
            TrainingError: no token carries a loss.
        """
        labels: Int[Tensor, " token"] = inputs["labels"][:, 1:].reshape(-1)
        counts = labels != NO_LOSS
        if n_tokens is None and not counts.any():
            raise TrainingError("no token of a batch carries a loss: see what loss_on names")
        read = {name: value.to(self.model.device) for name, value in inputs.items() if name != "labels"}
        with torch.no_grad():
            theirs = self.model.hf(**read).logits
        width = min(logits.shape[-1], theirs.shape[-1])
        ours, taught = (_of_tokens(each, width)[counts] for each in (logits, theirs.to(logits.device)))
        soft = divergences(ours, taught, self.temperature).sum()
        hard = F.cross_entropy(_of_tokens(logits)[counts].float(), labels[counts], reduction="sum")
        total = (1 - self.hard) * soft + self.hard * hard
        # A step of packed rows may have no token that carries a loss.
        return total / (counts.sum() if n_tokens is None else max(n_tokens, 1))


def _of_tokens(logits: Tensor, width: int | None = None) -> Float[Tensor, "token vocab"]:
    """The logits that predict each token but a row's first."""
    return logits[:, :-1, :width].reshape(-1, logits.shape[-1] if width is None else width)


def check_same_vocabulary(student: Model, teacher: Model) -> None:
    """Refuse a teacher whose tokens are not the student's.

    Raises:
        TrainingError: a token has another number, or is only in one; it is named. Where a model has no tokenizer, the
            sizes of the vocabularies differ.

    >>> check_same_vocabulary(ck.load("deductor-20k"), ck.load("deductor-130k"))
    """
    if student.tokenizer is None or teacher.tokenizer is None:
        if student.vocabulary != teacher.vocabulary:
            raise TrainingError(
                f"{teacher.name} has a vocabulary of {teacher.vocabulary} tokens, and {student.name} one of "
                f"{student.vocabulary}: a token's probabilities can be learnt from a teacher of the same one alone"
            )
        return
    ours: Mapping[str, int]
    ours, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    differing = [token for token in {**ours, **theirs} if ours.get(token) != theirs.get(token)]
    if differing:
        token = min(differing, key=lambda each: (ours.get(each, len(ours)), each))
        raise TrainingError(
            f"{teacher.name} has another vocabulary than {student.name}: {len(differing)} tokens differ, such as "
            f"{token!r} ({_number(theirs, token)} there, {_number(ours, token)} here). A token's probabilities can be "
            "learnt from a teacher of the same vocabulary alone: give one, or learn from its responses"
        )


def _number(vocabulary: Mapping[str, int], token: str) -> str:
    return f"number {vocabulary[token]}" if token in vocabulary else "not"
