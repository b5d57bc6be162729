"""The executor: a study hands it cells and a metric, and gets one number per cell and example.

Cells are run on top of one base run, and compute only what they can change: nothing below the first layer that they
touch, nothing before the first column that they change, nothing at all where they change nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
from circuitkit.run.memory import may_go_on, some_at_a_time
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
    values: list[Tensor] = []
    bar = tqdm(total=len(cells) * len(prompts), desc=title, unit="run", disable=not progress, delay=1.0)
    with torch.inference_mode(), bar:
        sweep = _Sweep(model, Reading.of(prompts, targets, metric), targets, metric, cells, budget, bar)
        waiting = parts(model, sweep.reading, cells, budget)
        while waiting:
            rows, begun = waiting.pop(0), bar.n
            try:
                values.append(sweep.part(rows, last=not waiting))
            except (RuntimeError, MemoryError) as error:
                if not has_parts(model, cells) or not may_go_on(model, error, rows.stop - rows.start):
                    raise
                middle = (rows.start + rows.stop) // 2
                warnings.warn(f"memory ran out ({error}); going on with {middle - rows.start} prompts", stacklevel=2)
                waiting[:0] = [slice(rows.start, middle), slice(middle, rows.stop)]
                bar.n = begun
    return torch.cat(values, dim=1)


class _Sweep:
    """Cells under way, a part of the prompts at a time."""

    def __init__(
        self,
        model: Model,
        reading: Reading,
        targets: Targets,
        metric: Metric,
        cells: Sequence[Interventions],
        budget: int | None,
        bar: tqdm[Any],
    ) -> None:
        self.model, self.reading, self.targets, self.metric = model, reading, targets, metric
        self.cells, self.budget, self.bar = cells, budget, bar
        # By cell and number in it, what has reached nothing in any part so far.
        self.unreached: set[tuple[int, int]] | None = None

    def part(self, rows: slice, *, last: bool) -> Float[Tensor, "cell example"]:
        """Some rows of the prompts under every cell."""
        n_rows = len(self.reading.tokens)
        cells = [Cell(self.model, [each.for_rows(rows, n_rows) for each in cell]) for cell in self.cells]
        targets = self.targets.select(torch.arange(rows.start, rows.stop))
        base = Base(self.model, self.reading.part(rows), cells)
        planned = list(groups(base, cells))
        self._note_unreached(cells, last)
        unchanged = _measured(self.model, self.metric, base.logits, targets, 1)
        dtype = torch.float64 if unchanged.dtype == torch.float64 else torch.float32
        values = torch.empty(len(cells), len(targets), dtype=dtype)
        for layer, first, numbers in planned:
            if first is None:
                values[numbers] = unchanged.to(dtype)
                self.bar.update(len(numbers) * len(targets))
                continue

            def run(some: Sequence[int], layer: int | None = layer, first: int = first) -> Tensor:
                return base.run([cells[number] for number in some], layer, first)

            at_once = cells_at_once(base, layer, first, self.budget)
            for batch, logits in some_at_a_time(self.model, numbers, at_once, run, "cells"):
                values[batch] = _measured(self.model, self.metric, logits, targets, len(batch)).to(dtype)
                self.bar.update(len(batch) * len(targets))
        return values

    def _note_unreached(self, cells: Sequence[Cell], last: bool) -> None:
        """A cell may name nothing in some prompts, as a span that others have; but not in all."""
        here = {
            (number, at) for number, cell in enumerate(cells) for at, edit in enumerate(cell.edits) if not edit.fired
        }
        self.unreached = here if self.unreached is None else self.unreached & here
        if last and self.unreached:
            number, at = min(self.unreached)
            raise InterventionError(
                f"the intervention at {cells[number].edits[at].site} never took place: it names no token that any of "
                f"the {len(self.reading.tokens)} prompts has"
            )


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
