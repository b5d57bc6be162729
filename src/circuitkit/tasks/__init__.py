"""Tasks: prompts, gold answers and judges, one module or folder a task."""

from circuitkit.tasks import prontoqa

__all__ = ["prontoqa"]
