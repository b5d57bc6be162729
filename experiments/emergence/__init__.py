"""Emergent heads: circuits of a base and of what post-training made of it, held against each other and tried out."""
