"""The error of everything that lm-eval is asked to do here."""

from __future__ import annotations


class HarnessError(ValueError):
    """An evaluation that lm-evaluation-harness cannot run: no such task, no room, settings that exclude each other."""
