"""Which examples and which cells run together: as much at a time as the memory holds and the machine is fastest at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from circuitkit.pairs import Reading
from circuitkit.run.base import Base
from circuitkit.run.cells import Cell
from circuitkit.run.interventions import Interventions
from circuitkit.run.memory import memory

if TYPE_CHECKING:
    from circuitkit.model.model import Model

# A processor is fastest while a batch stays in its caches.
_TOKENS_AT_ONCE_ON_CPU = 512
# What a batch costs beside its tokens, in tokens and in floating-point operations: weights read, Python's own time.
_TOKENS_A_BATCH = 24
_OPERATIONS_A_BATCH = {"cpu": 10**8}
_OPERATIONS_A_BATCH_ELSEWHERE = 10**12


def parts(model: Model, reading: Reading, cells: Sequence[Interventions], budget: int | None) -> list[slice]:
    """Rows of the prompts that are run together, through all cells, before the next ones.

    What a base run keeps then grows with a part, and not with the prompts.
    """
    n, columns = reading.tokens.ids.shape
    if not has_parts(model, cells):
        return [slice(0, n)]
    most = memory(model, budget) // (4 * _bytes_kept_a_row(model, columns))
    if reading.tokens.ids.device.type == "cpu":
        most = min(most, _TOKENS_AT_ONCE_ON_CPU // columns)
    n_parts = -(-n // max(1, most))
    size = -(-n // n_parts)
    return [slice(at, min(at + size, n)) for at in range(0, n, size)]


def has_parts(model: Model, cells: Sequence[Interventions]) -> bool:
    """Whether it is known what of the interventions belongs to which rows of the prompts."""
    # An outer context may name rows, and of a module's value it is not known which axis they are.
    return not model.sessions and not any(
        each.site.module is not None and isinstance(each.value, Tensor) and each.value.ndim > 1
        for cell in cells
        for each in cell
    )


def groups(base: Base, cells: Sequence[Cell]) -> Iterator[tuple[int | None, int | None, list[int]]]:
    """Cells by the first layer that they touch and about the first column that they change; None where none changes."""
    firsts: dict[int | None, list[tuple[int, int]]] = {}
    unchanged: list[int] = []
    last_read = int(base.reading.columns.max())
    for number, cell in enumerate(cells):
        first = cell.first_change(base.values, base.now)
        if first is None or first > last_read:
            unchanged.append(number)
            continue
        # Logits are read of columns that are run.
        first = min(first, int(base.reading.columns.min())) if base.shortcuts.prefix else 0
        firsts.setdefault(cell.layer, []).append((first, number))
    if unchanged:
        yield None, None, unchanged
    for layer, numbered in firsts.items():
        for together in _joined(base, layer, sorted(numbered)):
            yield layer, together[0][0], [number for _, number in together]


def _joined(base: Base, layer: int | None, cells: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Cells in the order of their first columns, those together that cost less together.

    A batch begins at its earliest cell's column, which wastes columns on the others; but a batch of its own costs too.
    """
    model = base.model
    operations = _OPERATIONS_A_BATCH.get(base.tokens.ids.device.type, _OPERATIONS_A_BATCH_ELSEWHERE)
    spared = _TOKENS_A_BATCH + operations // (24 * model.d_model**2 * (model.n_layers - (layer or 0)))
    batch: list[tuple[int, int]] = []
    wasted = 0
    for first, number in cells:
        wasted += (first - batch[0][0]) * len(base.tokens) if batch else 0
        if wasted > spared:
            yield batch
            batch, wasted = [], 0
        batch.append((first, number))
    if batch:
        yield batch


def cells_at_once(base: Base, layer: int | None, first: int, budget: int | None) -> int:
    """How many cells of a group a batch holds."""
    # What an outer context holds may name rows: there each cell is run alone.
    if base.model.sessions:
        return 1
    rows, columns = base.tokens.ids.shape
    device = base.tokens.ids.device
    # The rest of the budget is the base run's.
    size = 3 * memory(base.model, budget) // (4 * rows * _bytes_a_row(base, layer or 0, first))
    if device.type == "cpu":
        size = min(size, _TOKENS_AT_ONCE_ON_CPU // (rows * (columns - first)))
    return max(1, size)


def _bytes_kept_a_row(model: Model, columns: int) -> int:
    """What a base run keeps of one row at most, where cells touch every layer's stream and heads."""
    heads = int(getattr(model.config, "num_attention_heads", 16))
    return int(model.n_layers * columns * (4 * model.d_model + heads * columns) * model.hf.dtype.itemsize)


def _bytes_a_row(base: Base, layer: int, first: int) -> int:
    """What one row holds at its widest: stream, MLP, projections and scores of one layer, keys, and logits read."""
    model, config = base.model, base.model.config
    columns = base.tokens.ids.shape[1]
    run = columns - first
    wide = 8 * model.d_model + 2 * int(getattr(config, "intermediate_size", None) or 4 * model.d_model)
    heads = int(getattr(config, "num_attention_heads", 16))
    keys = 2 * (model.n_layers - layer) * columns * model.d_model if first else 0
    numbers = run * wide + 2 * heads * run * columns + keys
    numbers += 2 * base.reading.columns.shape[1] * base.logits.shape[-1]
    return int(numbers * base.logits.element_size())
