"""What can be sent: plain data, torch's own functions, and functions that go along by their source."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

from circuitkit.interop.nnsight import far_side
from circuitkit.interop.nnsight.limits import EngineError

#: The packages that are where the model is.
THERE = frozenset({"torch", "numpy", "transformers", "accelerate", "einops", "nnsight", "cloudpickle"})


def by_value(function: Callable[..., Any]) -> None:
    """Let a function's module, where it is not installed on the far side, go along by its source."""
    import nnsight

    name = getattr(function, "__module__", None) or "__main__"
    root = name.partition(".")[0]
    if name in sys.modules and root not in THERE and root not in sys.stdlib_module_names:
        nnsight.register(sys.modules[name])


by_value(far_side.run)


def check_sendable(function: Callable[..., Any], what: str) -> None:
    """Refuse a function that the far side could not put together again.

    Raises:
        EngineError: it needs a module that is not there, or something that cannot be written down.
    """
    from nnsight.intervention.serialization import dumps

    by_value(function)
    try:
        needed = modules_of(dumps(function))
    except Exception as error:  # whatever a user's object raises where it is pickled
        raise EngineError(f"{what} cannot be sent ({type(error).__name__}: {error}): give a plain function") from error
    if missing := sorted(name for name in needed if not is_there(name)):
        raise EngineError(
            f"{what} needs {', '.join(missing)}, which is not where the model is: "
            "write it with torch alone, in one module"
        )


def is_there(module: str) -> bool:
    """Whether a module is installed on the far side."""
    root = module.partition(".")[0]
    return root in THERE or root in sys.stdlib_module_names


def modules_of(sent: bytes) -> set[str]:
    """The modules that have to be there for sent bytes to be read."""
    reader = _Reader(io.BytesIO(sent))
    reader.load()
    return reader.modules


class _Reader(pickle.Unpickler):
    """Reads bytes and notes the modules that they name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        found = super().find_class(module, name)
        return self._imported if name == "subimport" else found

    def _imported(self, module: str) -> Any:
        """What a module that is named as a whole is read as."""
        self.modules.add(module)
        return importlib.import_module(module)

    def persistent_load(self, pid: Any) -> Any:
        return pid
