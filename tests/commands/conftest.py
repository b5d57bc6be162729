"""What the tests of all verbs share."""

from functools import partial

import pytest

from shell import Run, status


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """Runs the verb that the test's module names as VERB."""
    return partial(status, request.module.VERB)
