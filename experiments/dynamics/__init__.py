"""Training dynamics: a circuit every few steps of SFT, distillation and GRPO from the same start."""
