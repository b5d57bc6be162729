"""What can be wrong with checkpoints, and with what is asked of them."""


class SfnError(ValueError):
    """Something about checkpoints that cannot be done as asked."""
