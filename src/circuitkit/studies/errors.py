"""What keeps a sweep from starting, and what stops one."""


class SweepError(ValueError):
    """A sweep that cannot run as it was asked for: a cell, a folder or a setting is wrong."""


class SweepStoppedError(OSError):
    """A sweep that had to stop, such as for a full disk; what was finished is kept."""
