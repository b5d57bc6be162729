"""How much each edge and node carries, by gradients and by patching."""
