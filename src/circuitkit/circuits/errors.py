"""What can be wrong with circuits, and with what is asked of them."""


class CircuitError(ValueError):
    """Something about circuits that cannot be done as asked."""
