"""An examination: every check of a model with its figure, its limit and what to do where it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch

from circuitkit.doctor import checks
from circuitkit.doctor.patient import Patient, UncheckedError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from circuitkit.model.model import Model

TOLERANCE: dict[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.float32: 5e-4,
    torch.float16: 3e-2,
    torch.bfloat16: 2e-1,
}
"""Largest difference that a dtype's rounding explains, relative to the standard deviation of what is compared."""


@dataclass(frozen=True)
class Check:
    """One check of a model.

    Attributes:
        name: what is held to be true.
        figure: the worst that was measured; None where it was not checked or ended in an error.
        limit: what the figure is held against; the figure stays at or below it, or above it where `above`.
        above: whether the figure has to be above the limit rather than within it.
        ok: None where it was not checked.
        says: what a failure means and what to do, or why it was not checked.
    """

    name: str
    figure: float | None
    limit: float
    above: bool
    ok: bool | None
    says: str

    @property
    def verdict(self) -> str:
        """One word or two for a table."""
        return "not checked" if self.ok is None else ("ok" if self.ok else "FAILED")


@dataclass(frozen=True, repr=False)
class Examination(Shown):
    """What a model's checks gave.

    Attributes:
        model: the model's name.
        dtype, device, attention: what it was examined as.
        checks: in the order they were made.
    """

    model: str
    dtype: str
    device: str
    attention: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """The checks that failed."""
        return [check for check in self.checks if check.ok is False]

    @property
    def frame(self) -> pd.DataFrame:
        """A row a check: `check figure limit verdict says`."""
        return pd.DataFrame(
            {
                "check": [check.name for check in self.checks],
                "figure": [check.figure for check in self.checks],
                "limit": [check.limit for check in self.checks],
                "verdict": [check.verdict for check in self.checks],
                "says": [check.says for check in self.checks],
            }
        )

    def table(self) -> str:
        """The examination as text, ending in the reasons of what failed."""
        width = max(len(check.name) for check in self.checks)
        lines = [f"{self.model}: {self.dtype} on {self.device}, attention {self.attention}", ""]
        for check in self.checks:
            figure = "" if check.figure is None else f"{check.figure:.1e}"
            limit = f"{'>' if check.above else '<='} {check.limit:.0e}" if check.limit else "> 0"
            remark = f"  {check.says}" if check.ok is None else ""
            lines.append(f"{check.name:<{width}}  {figure:>8}  {limit:<8}  {check.verdict}{remark}")
        for check in self.failed:
            lines += ["", f"{check.name}: {check.says}"]
        return "\n".join(lines)

    def _says(self) -> list[str]:
        told = "no check failed" if self.ok else f"{len(self.failed)} checks FAILED"
        return [f"{self.dtype} on {self.device}, attention {self.attention}: {told}."]

    def _strongest(self) -> pd.DataFrame:
        """What failed first; what a check says of a failure stands at no other."""
        frame = self.frame
        frame["says"] = ["" if check.ok else check.says for check in self.checks]
        order = sorted(range(len(frame)), key=lambda at: (self.checks[at].ok is not False, self.checks[at].ok is True))
        return frame.iloc[order]


def examine(model: Model, prompts: Prompts | Tokens | None = None) -> Examination:
    """Check a model and its tap against the model left alone.

    Differences are the largest on real tokens, relative to the standard deviation of what is compared, and held
    against a limit by dtype (`TOLERANCE`: 5e-4 in float32, 3e-2 in float16, 2e-1 in bfloat16).

    Args:
        model: the model.
        prompts: what to run; by default random token ids in rows of unequal length, from a fixed seed.

    Raises:
        PromptError: the prompts do not fit the model.

    >>> examine(ck.load("deductor-130k")).ok
    True
    """
    patient = Patient.of(model, prompts)
    limit = TOLERANCE.get(patient.whole.dtype, TOLERANCE[torch.bfloat16])
    with torch.no_grad():
        made = tuple(_make(name, check, patient, limit) for name, check in checks.ALL.items())
    implementation = getattr(model.config, "_attn_implementation", None) or "eager"
    dtype = str(patient.whole.dtype).removeprefix("torch.")
    return Examination(model.name, dtype, str(model.device), implementation, made)


def _make(name: str, check: Callable[[Patient], checks.Finding], patient: Patient, limit: float) -> Check:
    above = check is checks.changed_pattern
    limit = 0.0 if above else limit
    try:
        finding = check(patient)
    except UncheckedError as reason:
        return Check(name, None, limit, above, None, str(reason))
    except (ValueError, RuntimeError, TypeError) as error:
        # One check that cannot be made must not hide what the others find.
        return Check(name, None, limit, above, False, f"{type(error).__name__}: {error}")
    # Written so that NaN fails.
    ok = finding.figure > limit if above else finding.figure <= limit
    return Check(name, finding.figure, limit, above, ok, f"{finding.where}{checks.MEANING[name]}")
