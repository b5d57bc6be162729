"""What can be wrong with responses whose levels are asked for."""

from __future__ import annotations

from circuitkit.sfn.errors import SfnError


class LevelError(SfnError):
    """Responses, a reference or a correction out of which no levels can be told."""
