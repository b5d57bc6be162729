"""What goes wrong when a model is evaluated."""

from __future__ import annotations


class EvaluationError(ValueError):
    """An evaluation that cannot be run, gone on with, or read as it was asked for."""
