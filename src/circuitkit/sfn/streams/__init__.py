"""Checkpoints as streams of blocks, and the parts of a model that their tensors are."""
