"""Work that follows another thread's, in order and never far behind."""

import threading
from concurrent.futures import CancelledError

import pytest

from circuitkit.sfn.written.following import Following


def test_calls_are_done_in_order_and_no_more_than_so_many_wait():
    begun, most, done = 0, 0, []

    def step(number):
        nonlocal most
        most = max(most, begun - len(done))
        done.append(number)

    with Following(3) as following:
        for number in range(200):
            begun += 1
            following.do(step, number)
        following.wait()
        assert done == list(range(200))
    # Three that wait, and the one that is being given.
    assert most <= 4


def test_an_error_comes_out_at_a_later_call_or_at_the_end():
    with Following(1) as following, pytest.raises(ValueError, match="one"):
        for number in ("one", "2", "3"):
            following.do(int, number)
    with Following(9) as following, pytest.raises(ValueError, match="one"):
        following.do(int, "one")
        following.wait()


def test_after_an_error_what_waits_is_not_done():
    held, going = threading.Event(), threading.Event()

    def hold():
        going.set()
        held.wait(10)

    def leave():
        with Following(5) as following:
            following.do(hold)
            given.append(following.do(given.append, "done"))
            going.wait(10)
            threading.Timer(0.05, held.set).start()
            raise KeyboardInterrupt

    given: list = []
    with pytest.raises(KeyboardInterrupt):
        leave()
    with pytest.raises(CancelledError):
        given[0].result()
    assert len(given) == 1
