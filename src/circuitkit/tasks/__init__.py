"""Tasks: prompts, gold answers and judges, one module or folder a task."""

from circuitkit.tasks import deductions, greater_than, indirect_objects, induction, prontoqa

__all__ = ["deductions", "greater_than", "indirect_objects", "induction", "prontoqa"]
