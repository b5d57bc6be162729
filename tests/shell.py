"""The command line as a shell calls it."""

from collections.abc import Callable

import pytest

from circuitkit import cli

Run = Callable[..., int]
"""Runs one verb with some words, and gives the exit status."""


def status(*words: object) -> int:
    """The exit status of `circuitkit WORDS…`."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    assert isinstance(ended.value.code, int)
    return ended.value.code
