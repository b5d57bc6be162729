"""Checkpoints written from others, whole or not at all, with a manifest of what changed."""
