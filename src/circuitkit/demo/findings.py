"""What a demonstration found, and how it is said in plain words: from its results alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from circuitkit.results import Result
from circuitkit.statistics import Control, jaccard, wilson

Head = tuple[int, int]

SMALLEST_SHARE = 0.1
"""A head that restores less than this share of the answer is not told as found, however significant."""

SURE = 0.05
"""Found heads are said to carry the proof where no more than this share of random sets costs as much as they do."""

TOP = 5


@dataclass(frozen=True)
class Findings:
    """The results of a demonstration.

    Attributes:
        model: its name.
        residual: denoising of the residual stream, layer x position.
        heads: denoising of every head.
        ablation: every head alone, to its mean.
        replications: denoising of every head again, on other draws of prompts.
        joint: the found heads ablated together, beside random heads matched in layer and number; None where there is
            no found head, or no such other one.
        shared: whether random sets hold found heads, since too few others are in their layers.
    """

    model: str
    residual: Result
    heads: Result
    ablation: Result
    replications: Sequence[Result]
    joint: Control | None
    shared: bool = False

    @property
    def solved(self) -> tuple[int, int]:
        """Of how many pairs the model prefers the right answer, in the clean and in the corrupt prompt."""
        baseline = self.heads.baseline
        assert baseline.corrupt is not None
        return int((baseline.clean > 0).sum()), int((baseline.corrupt < 0).sum())

    @property
    def solves(self) -> bool:
        """Whether it does so more often than a coin would, on both sides."""
        return all(wilson(count, len(self.heads.baseline.clean)).low > 0.5 for count in self.solved)

    @property
    def found(self) -> list[Head]:
        """The heads that restore the answer, strongest first."""
        return carrying(self.heads) if self.solves else []

    @property
    def agreement(self) -> float:
        """Mean Jaccard index of the top heads over all draws of prompts."""
        tops = [top_heads(result) for result in (self.heads, *self.replications)]
        scores = [jaccard(a, b) for a, b in combinations(tops, 2)]
        return sum(scores) / len(scores)

    def sentences(self) -> list[str]:
        """What was found, and how sure it is."""
        said = [self._said_of_task()]
        if not self.found:
            return [*said, self._nothing()]
        said.append(self._said_of_heads())
        said.append(self._said_of_ablation())
        if self.replications:
            said.append(
                f"The strongest {min(TOP, self._n_heads)} heads on {len(self.replications) + 1} draws of prompts agree "
                f"with a mean Jaccard index of {self.agreement:.2f}."
            )
        return [*said, self._said_of_stream()]

    @property
    def _n_heads(self) -> int:
        return int((~self.heads.values.isnan()).sum())

    def _said_of_task(self) -> str:
        n, (right, changed) = len(self.heads.baseline.clean), self.solved
        low, high = wilson(right, n)
        return (
            f"{self.model} prefers the right next step in {right} of {n} deductions ({right / n:.0%}, 95% interval "
            f"{low:.0%} to {high:.0%}), and in {changed} of {n} when the rule is changed."
        )

    def _nothing(self) -> str:
        if not self.solves:
            return (
                "Nothing was found: a model that does not take the deductions better than chance has no part that "
                "carries them, and what patching moves in it is not reasoning."
            )
        return (
            f"Nothing was found: no head restores {SMALLEST_SHARE:.0%} of the answer and survives correction over all "
            f"{self._n_heads} heads."
        )

    def _said_of_heads(self) -> str:
        rows = {(row["layer"], row["head"]): row for row in self.heads.frame.to_dict("records")}
        parts = []
        for layer, head in self.found:
            row = rows[layer, head]
            share = row["normalised"] / row["effect"]
            parts.append(
                f"layer {layer} head {head} (restores {row['normalised']:.0%}, 95% interval {row['low'] * share:.0%} "
                f"to {row['high'] * share:.0%}, p = {row['p_corrected']:.2g})"
            )
        heads = "head restores" if len(parts) == 1 else "heads restore"
        return f"{len(parts)} of {self._n_heads} {heads} the answer, corrected over all of them: {', '.join(parts)}."

    def _said_of_ablation(self) -> str:
        if self.joint is None:
            return "Their layers have no other heads, so there is no matched random set to ablate beside them."
        lost, others = self.joint.observed, self.joint.controls
        as_much = sum(other >= lost for other in others)
        sharing = "which for want of others hold found heads too" if self.shared else "without a found head"
        measured = (
            f"Ablated to the mean together, they cost {lost:.2f} of {self.ablation.baseline.clean_mean:.2f} "
            f"{self.ablation.unit}; {len(others)} random sets matched in layer and number, {sharing}, cost "
            f"{self.joint.mean:.2f} on average"
        )
        if as_much == 0 and self.joint.p <= SURE:
            return f"{measured}, and none as much (p = {self.joint.p:.2g}): the found heads carry the proof."
        if as_much == 0:
            return (
                f"{measured}, and none as much, but so few sets cannot tell (p = {self.joint.p:.2g}): that the found "
                "heads carry the proof is not shown."
            )
        return (
            f"{measured}, and {as_much} of them as much or more (p = {self.joint.p:.2g}): ablating the found heads "
            "costs no more than ablating random ones does, so that they carry the proof is not shown."
        )

    def _said_of_stream(self) -> str:
        normalised = self.residual.normalised
        labels = self.residual.labels["position"]
        at = int(normalised[0].argmax())
        share, word = float(normalised[0, at]), labels[at].removeprefix("~").strip()
        where = f"position {at} ({word!r} in the first pair)"
        first = (
            f"At the input of layer 0, {where} alone restores most of the answer ({share:.0%})"
            if share > 0.5
            else f"At the input of layer 0, no position alone restores most of the answer: {where} restores {share:.0%}"
        )
        last = normalised[:, -1]
        arrived = len(last)
        while arrived and float(last[arrived - 1]) > 0.5:
            arrived -= 1
        if arrived == len(last):
            return f"{first}; at that of the last layer, the last position restores {float(last[-1]):.0%}."
        least = float(last[arrived:].min())
        return (
            f"{first}; from the input of layer {arrived} on, the last position alone restores most of it "
            f"({least:.0%} or more)."
        )


def carrying(result: Result) -> list[Head]:
    """Heads whose clean output restores a share of the answer worth the name, and that survive correction."""
    frame = result.frame
    chosen = frame[frame["significant"] & (frame["normalised"] >= SMALLEST_SHARE)]
    ordered = chosen.sort_values("normalised", ascending=False)
    return list(zip(ordered["layer"].astype(int), ordered["head"].astype(int), strict=True))


def top_heads(result: Result, n: int = TOP) -> set[Head]:
    """The heads of largest effect, in magnitude."""
    effects = result.effects.abs().nan_to_num(-1.0)
    order = effects.flatten().argsort(descending=True)[: min(n, int((effects >= 0).sum()))]
    width = effects.shape[1]
    rows = torch.as_tensor(result.coordinates.get("layer", range(len(effects))))
    return {(int(rows[int(i) // width]), int(i) % width) for i in order}
