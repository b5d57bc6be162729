"""What lm-eval logs, left out where it says what is not so here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Let lm-eval log errors alone.

    It warns that arguments of a model that is there already are ignored, when it is given none, that settings come from
    a command line, when they do not, and of options that only its own command has. What is lost of a prompt is warned
    of by circuitkit.

    >>> with quiet():
    ...     logging.getLogger("lm_eval").isEnabledFor(logging.WARNING)
    False
    """
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
