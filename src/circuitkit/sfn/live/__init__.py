"""Weights of models in memory: other ones for a while, frozen, or kept as plug-ins."""
