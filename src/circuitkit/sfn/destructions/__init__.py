"""What takes the place of weights that are destroyed."""
