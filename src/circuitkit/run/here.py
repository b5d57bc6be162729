"""Studies that compute with a model's own modules, and so need them here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuitkit.run.executor import Engine

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def require_modules(model: Model) -> None:
    """Refuse, before anything runs, a study that computes with modules of a model that another engine runs.

    Raises:
        EngineError: the model is not here.

    >>> require_modules(ck.load("deductor-130k"))
    """
    if isinstance(model, Engine):
        from circuitkit.interop.nnsight.limits import refusal

        raise refusal("own modules", model.name)
