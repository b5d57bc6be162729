"""A process whose files may not grow: it gets the errors of one whose disk is full, and needs no disk of its own."""

import json
import os
import resource
import signal
from collections.abc import Callable
from typing import Any


def under_file_limit(work: Callable[[], Any], limit: int) -> Any:
    """What `work` returns, as JSON keeps it, in a fork of this process whose files may have so many bytes at most."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            answer = {"returned": work()}
        except BaseException as error:
            answer = {"raised": repr(error)}
        os.write(told, json.dumps(answer).encode())
        os._exit(0)
    os.close(told)
    with os.fdopen(heard, "rb") as pipe:
        found = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert "returned" in found, found
    return found["returned"]
