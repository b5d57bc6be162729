"""Circuits of base and post-trained models held against each other."""
