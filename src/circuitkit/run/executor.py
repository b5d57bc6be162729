"""The executor: a study hands it cells and a metric, and gets one number per cell and example.

Cells are run on top of one base run, and compute only what they can change: nothing below the first layer that they
touch, nothing before the first column that they change, nothing at all where they change nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit.metrics import Metric, Targets
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import Reading
from circuitkit.run.base import Base
from circuitkit.run.cells import Cell
from circuitkit.run.interventions import InterventionError, Interventions
from circuitkit.run.run import forward, nan_advice, nan_row
from circuitkit.run.session import check_dropout

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_BUDGET_ON_CPU = 1 << 28
_TOKENS_AT_ONCE = 512
_TOKENS_A_BATCH = 24
_OPERATIONS_A_BATCH = 10**8


def measure(
    model: Model,
    prompts: Tokens,
    targets: Targets,
    metric: Metric,
    cells: Sequence[Interventions],
    *,
    title: str = "",
    progress: bool = True,
    budget: int | None = None,
) -> Float[Tensor, "cell example"]:
    """Measure every example under every cell.

    A cell is a set of interventions; the empty one is the baseline, which studies measure here too, so that it takes
    the same way through the model as the cells.

    Args:
        model: the model.
        prompts: the base prompts.
        targets: what the logits are held against.
        metric: what is measured.
        cells: the cells.
        title: what the progress bar says.
        progress: show it.
        budget: bytes that a batch of cells may take; found at run time if None, and halved where memory runs out.

    Raises:
        InterventionError: a cell's intervention reaches nothing.
        ValueError: the metric does not fit the targets.
    """
    check_dropout(model)
    reading = Reading.of(prompts, targets, metric)
    made = [Cell(model, interventions) for interventions in cells]
    values = torch.empty(len(made), len(prompts), dtype=torch.float64)
    with torch.inference_mode(), tqdm(total=len(made), desc=title, unit="cell", disable=not progress, delay=1.0) as bar:
        base = Base(model, reading, made)
        unchanged = _measured(model, metric, base.logits, targets, 1)
        for layer, first, numbers in _groups(base, made):
            if first is None:
                values[numbers] = unchanged.double()
                bar.update(len(numbers))
                continue
            for batch, logits in _batches(base, made, layer, first, numbers, budget):
                values[batch] = _measured(model, metric, logits, targets, len(batch)).double()
                bar.update(len(batch))
    dtype = torch.float64 if unchanged.dtype == torch.float64 else torch.float32
    return values.to(dtype)


def logits_read(
    model: Model, prompts: Tokens, targets: Targets, metric: Metric
) -> Float[Tensor, "example *reads vocab"]:
    """The logits that a metric reads without interventions: what a divergence from the clean run is held against."""
    reading = Reading.of(prompts, targets, metric)
    with torch.no_grad():
        logits = forward(model, reading.tokens, reading.columns)
    return logits[:, 0] if metric.positions == "last" else logits


def _measured(
    model: Model, metric: Metric, logits: Tensor, targets: Targets, n_cells: int
) -> Float[Tensor, "cell example"]:
    if nan_row(logits) is not None:
        raise InterventionError(f"the logits under a cell hold NaN: {nan_advice(model)}")
    rows = torch.arange(len(targets)).repeat(n_cells)
    read = logits[:, 0] if metric.positions == "last" else logits
    stacked = targets if n_cells == 1 else targets.select(rows)
    return metric(read, stacked.to(logits.device)).cpu().view(n_cells, -1)


def _groups(base: Base, cells: Sequence[Cell]) -> Iterator[tuple[int | None, int | None, list[int]]]:
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

    A batch begins at its earliest cell's column, which wastes columns on the others; but every batch costs as much as
    some tokens more: all weights are read for it, and Python goes through the model once.
    """
    model = base.model
    spared = _TOKENS_A_BATCH + _OPERATIONS_A_BATCH // (24 * model.d_model**2 * (model.n_layers - (layer or 0)))
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


def _batches(
    base: Base, cells: Sequence[Cell], layer: int | None, first: int, numbers: list[int], budget: int | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Cells of one group, as many at a time as the budget holds; fewer where memory runs out."""
    # What an outer context holds may name rows: there each cell is run alone.
    size = 1 if base.model.sessions else _cells_at_once(base, first, budget)
    at = 0
    while at < len(numbers):
        batch = numbers[at : at + size]
        try:
            logits = base.run([cells[number] for number in batch], layer, first)
        except (torch.OutOfMemoryError, MemoryError) as error:
            if len(batch) == 1:
                raise
            size = max(1, len(batch) // 2)
            warnings.warn(f"memory ran out ({error}); going on with {size} cells at a time", stacklevel=2)
            continue
        yield batch, logits
        at += len(batch)


def _cells_at_once(base: Base, first: int, budget: int | None) -> int:
    size = _bytes(base, budget) // (_bytes_a_row(base, first) * len(base.tokens))
    if base.tokens.ids.device.type == "cpu":
        # A processor is fastest while a batch stays in its caches.
        size = min(size, _TOKENS_AT_ONCE // (len(base.tokens) * (base.tokens.ids.shape[1] - first)))
    return max(1, size)


def _bytes(base: Base, budget: int | None) -> int:
    if budget is not None:
        return budget
    if base.tokens.ids.device.type == "cuda":
        return int(torch.cuda.mem_get_info(base.tokens.ids.device)[0] * 0.5)
    return _BUDGET_ON_CPU


def _bytes_a_row(base: Base, first: int) -> int:
    """What one row holds at its widest: the stream, the MLP's and the projections' width, scores, and logits read."""
    model, config = base.model, base.model.config
    columns = base.tokens.ids.shape[1]
    run = columns - first
    wide = 8 * model.d_model + 2 * int(getattr(config, "intermediate_size", None) or 4 * model.d_model)
    heads = int(getattr(config, "num_attention_heads", 16))
    numbers = run * wide + 2 * heads * run * columns + 2 * base.reading.columns.shape[1] * base.logits.shape[-1]
    return int(numbers * base.logits.element_size())
