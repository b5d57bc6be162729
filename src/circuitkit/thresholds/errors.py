"""What is wrong with a table of models."""


class ThresholdError(ValueError):
    """A table of models in which no threshold can be looked for; says which row is wrong and what to do."""
