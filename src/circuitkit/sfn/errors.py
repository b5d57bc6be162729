"""What can be wrong with checkpoints, and with what is asked of them."""


class SfnError(ValueError):
    """Something about checkpoints that cannot be done as asked."""


class CheckpointError(SfnError):
    """A folder, a file or a model that is not the checkpoint that it should be."""


class SelectionError(SfnError):
    """Modules, layers or heads that are not there, or that are not to be had alone."""


class PairError(SfnError):
    """Two checkpoints whose weights cannot be held against each other."""
