"""A study's folder as one page that opens without a network: what was asked, found, seen, and how to repeat it.

`write` puts `report.html` into the folder; `read` gives what would stand in it. `circuitkit report FOLDER` is the same
from the shell.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit.report.errors import ReportError
    from circuitkit.report.page import Report, read, write

__all__ = ["Report", "ReportError", "read", "write"]

_HOMES = {"ReportError": "errors", **dict.fromkeys(("Report", "read", "write"), "page")}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'circuitkit.report' has no attribute {name!r}")
    return getattr(importlib.import_module(f"circuitkit.report.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
