"""How the modules of two checkpoints differ: norms, directions, histograms, and what their modes come from."""
