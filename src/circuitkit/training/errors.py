"""What is wrong with a training: its data, its settings, or the folder it is to be kept in."""


class TrainingError(ValueError):
    """A training that cannot be run or gone on with; the message says what is wrong and what to do."""
