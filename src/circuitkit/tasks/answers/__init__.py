"""How answers are read out of responses, and which of a task's readings are asked for."""
