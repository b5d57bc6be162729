"""Memory that a study may take, and what to do where it runs out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from circuitkit.model.devices import accelerators
from circuitkit.model.sharding import every_process

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_BUDGET_ON_CPU = 1 << 28
Item = TypeVar("Item")
Made = TypeVar("Made")


def memory(model: Model, budget: int | None) -> int:
    """Bytes that a study may take on the model's device: its budget, or half of what is free there (or on the fullest).

    Processes that share a model take what the one with the least has, so that they run the same batches.
    """
    if budget is not None:
        return budget
    if model.device.type != "cuda":
        return _BUDGET_ON_CPU
    # Of a model that is spread over several, a batch goes through all.
    devices = accelerators(model.hf) or [model.device]
    free = min(int(torch.cuda.mem_get_info(device)[0] * 0.5) for device in devices)
    return free if model.group is None else min(every_process(free, model.group))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left; on a CPU torch has no name for it.

    >>> ran_out(torch.OutOfMemoryError()), ran_out(RuntimeError("shape"))
    (True, False)
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def may_go_on(model: Model, error: BaseException, left: int) -> bool:
    """Whether a study goes on with less at a time after an error; of one thing, there is nothing less."""
    # Of processes that share a model, the others would not know of it.
    return ran_out(error) and left > 1 and model.group is None


def some_at_a_time(
    model: Model, items: Sequence[Item], size: int, run: Callable[[Sequence[Item]], Made], what: str
) -> Iterator[tuple[Sequence[Item], Made]]:
    """Run items in batches of a size, in order, and in smaller ones once memory has run out.

    >>> model = ck.load("deductor-5k")
    >>> [made for _, made in some_at_a_time(model, [1, 2, 3], 2, sum, "numbers")]
    [3, 3]
    """
    at = 0
    while at < len(items):
        batch = items[at : at + size]
        try:
            made = run(batch)
        except (RuntimeError, MemoryError) as error:
            if not may_go_on(model, error, len(batch)):
                raise
            size = len(batch) // 2
            warnings.warn(f"memory ran out ({error}); going on with {size} {what} at a time", stacklevel=3)
            continue
        yield batch, made
        at += len(batch)
