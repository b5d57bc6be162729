"""Whether interventions have taken place, kept beside responses: a run that goes on counts what an earlier one saw."""

from __future__ import annotations

import json
from pathlib import Path

from circuitkit.run.edits import Edit
from circuitkit.run.interventions import InterventionError
from circuitkit.run.session import Session
from circuitkit.writing import write_json

_FILE = "interventions.json"


class TakingPlace:
    """Which interventions of a folder's evaluation have taken place.

    Args:
        folder: where it is kept; None where nothing is.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / _FILE
        self._known: dict[str, bool] = {}
        if self.path is not None and self.path.exists():
            self._known = json.loads(self.path.read_text(encoding="utf-8"))

    def begin(self, session: Session) -> None:
        """Tell a session what has taken place before it."""
        for name, edit in _named(session).items():
            edit.fired = edit.fired or self._known.get(name, False)

    def note(self, session: Session) -> None:
        """Keep what has taken place by now, before a response is kept that was written under it."""
        now = {name: edit.fired for name, edit in _named(session).items()}
        if now != self._known:
            self._known = now
            if self.path is not None:
                write_json(self.path, now)

    def check(self, session: Session) -> None:
        """Look whether all of a session's interventions took place in responses that are there already.

        Raises:
            InterventionError: one did not.
        """
        for name, edit in _named(session).items():
            if not self._known.get(name, False):
                raise InterventionError(f"the intervention at {edit.site} never took place in any response")


def _named(session: Session) -> dict[str, Edit]:
    return {f"{at} {edit.site}": edit for at, edit in enumerate(session.edits)}
