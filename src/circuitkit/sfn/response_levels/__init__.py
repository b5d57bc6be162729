"""Levels of responses: what a merged or destroyed model still does, from nonsense (I) to right (IV)."""
