"""The executor: a study hands it cells and a metric, and gets one number per cell and example.

Cells are run on top of one base run, and compute only what they can change: nothing below the first layer that they
touch, nothing before the first column that they change, nothing at all where they change nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit.metrics import Metric, Targets
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import Reading
from circuitkit.run.base import Base
from circuitkit.run.batching import cells_at_once, groups, has_parts, parts
from circuitkit.run.cells import Cell
from circuitkit.run.interventions import InterventionError, Interventions
from circuitkit.run.run import forward, nan_advice, nan_row
from circuitkit.run.session import check_dropout

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@runtime_checkable
class Engine(Protocol):
    """A model that runs cells in a way of its own, elsewhere."""

    def measure(
        self,
        prompts: Tokens,
        targets: Targets,
        metric: Metric,
        cells: Sequence[Interventions],
        *,
        title: str,
        progress: bool,
        budget: int | None,
    ) -> Float[Tensor, "cell example"]:
        """See `measure`."""

    def logits_read(self, prompts: Tokens, targets: Targets, metric: Metric) -> Float[Tensor, "example *reads vocab"]:
        """See `logits_read`."""


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
    if isinstance(model, Engine):
        return model.measure(prompts, targets, metric, cells, title=title, progress=progress, budget=budget)
    check_dropout(model)
    reading = Reading.of(prompts, targets, metric)
    values: list[Tensor] = []
    bar = tqdm(total=len(cells) * len(prompts), desc=title, unit="run", disable=not progress, delay=1.0)
    with torch.inference_mode(), bar:
        waiting = parts(model, reading, cells, budget)
        while waiting:
            rows, begun = waiting.pop(0), bar.n
            own = [[each.for_rows(rows, len(prompts)) for each in cell] for cell in cells]
            some = targets.select(torch.arange(rows.start, rows.stop))
            try:
                values.append(_of_part(model, reading.part(rows), some, metric, own, budget, bar))
            except (torch.OutOfMemoryError, MemoryError) as error:
                middle = (rows.start + rows.stop) // 2
                if middle == rows.start or not has_parts(model, cells) or model.group is not None:
                    raise
                warnings.warn(f"memory ran out ({error}); going on with {middle - rows.start} prompts", stacklevel=2)
                waiting[:0] = [slice(rows.start, middle), slice(middle, rows.stop)]
                bar.n = begun
    return torch.cat(values, dim=1)


def _of_part(
    model: Model,
    reading: Reading,
    targets: Targets,
    metric: Metric,
    cells: Sequence[Interventions],
    budget: int | None,
    bar: tqdm[Any],
) -> Float[Tensor, "cell example"]:
    """Some examples under every cell."""
    made = [Cell(model, interventions) for interventions in cells]
    base = Base(model, reading, made)
    unchanged = _measured(model, metric, base.logits, targets, 1)
    dtype = torch.float64 if unchanged.dtype == torch.float64 else torch.float32
    values = torch.empty(len(made), len(targets), dtype=dtype)
    for layer, first, numbers in groups(base, made):
        if first is None:
            values[numbers] = unchanged.to(dtype)
            bar.update(len(numbers) * len(targets))
            continue
        for batch, logits in _batches(base, made, layer, first, numbers, budget):
            values[batch] = _measured(model, metric, logits, targets, len(batch)).to(dtype)
            bar.update(len(batch) * len(targets))
    return values


def logits_read(
    model: Model, prompts: Tokens, targets: Targets, metric: Metric
) -> Float[Tensor, "example *reads vocab"]:
    """The logits that a metric reads without interventions: what a divergence from the clean run is held against."""
    if isinstance(model, Engine):
        return model.logits_read(prompts, targets, metric)
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


def _batches(
    base: Base, cells: Sequence[Cell], layer: int | None, first: int, numbers: list[int], budget: int | None
) -> Iterator[tuple[list[int], Tensor]]:
    """Cells of one group, as many at a time as the budget holds; fewer where memory runs out."""
    size = cells_at_once(base, layer, first, budget)
    at = 0
    while at < len(numbers):
        batch = numbers[at : at + size]
        try:
            logits = base.run([cells[number] for number in batch], layer, first)
        except (torch.OutOfMemoryError, MemoryError) as error:
            # Of processes that share a model, the others would not know of it.
            if len(batch) == 1 or base.model.group is not None:
                raise
            size = max(1, len(batch) // 2)
            warnings.warn(f"memory ran out ({error}); going on with {size} cells at a time", stacklevel=2)
            continue
        yield batch, logits
        at += len(batch)
