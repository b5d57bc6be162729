"""What goes wrong when a folder of results is turned into a page."""


class ReportError(ValueError):
    """A folder that cannot be shown, or a page that cannot be written: what was wrong, and what to do."""
