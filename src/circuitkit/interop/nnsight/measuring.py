"""Cells of a study, stacked along the batch of one trace after another, and reduced where the model is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit.interop.nnsight import far_side
from circuitkit.interop.nnsight.programs import Program
from circuitkit.interop.nnsight.recipes import Recipe, check_fired
from circuitkit.interop.nnsight.sending import check_sendable
from circuitkit.metrics import Metric, Targets
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.pairs import Reading
from circuitkit.run.edits import Edit
from circuitkit.run.interventions import InterventionError, Interventions

if TYPE_CHECKING:
    from circuitkit.interop.nnsight.engine import NnsightModel


def measure(
    model: NnsightModel,
    prompts: Tokens,
    targets: Targets,
    metric: Metric,
    cells: Sequence[Interventions],
    *,
    title: str,
    progress: bool,
) -> Float[Tensor, "cell example"]:
    """See `NnsightModel.measure`."""
    reading = Reading.of(prompts, targets, metric)
    _check_metric(metric, targets, model.vocabulary)
    # Every cell is made before the first is sent, so that one that cannot be carried out is told of at once.
    for cell in cells:
        recipes, _ = _made(model, reading, [cell])
        check_fired(recipes)
    values = torch.empty(len(cells), len(targets))
    with tqdm(total=len(cells) * len(targets), desc=title, unit="run", disable=not progress, delay=1.0) as bar:
        for rows in _parts(len(targets), model.rows_at_once):
            part, some = reading.part(rows), targets.select(torch.arange(rows.start, rows.stop))
            size = max(1, model.rows_at_once // len(some))
            for first in range(0, len(cells), size):
                own = [[each.for_rows(rows, len(targets)) for each in cell] for cell in cells[first : first + size]]
                measured = _traced(model, part, some, metric, own)
                if measured.dtype == torch.float64:
                    values = values.double()
                values[first : first + len(own), rows] = measured.to(values.dtype)
                bar.update(measured.numel())
    return values


def _edits(model: NnsightModel, cell: Interventions) -> list[Edit]:
    return [Edit(each, site) for each in cell for site in model.sites(each.site)]


def _parts(n: int, most: int) -> Iterator[slice]:
    yield from (slice(first, min(first + most, n)) for first in range(0, n, max(1, most)))


def _check_metric(metric: Metric, targets: Targets, vocabulary: int | None) -> None:
    """Refuse here what the far side would refuse: a metric that cannot be sent, or does not fit its targets."""
    check_sendable(metric.compute, f"metric {metric.name!r}")
    if vocabulary is None:
        return
    generator = torch.Generator().manual_seed(0)
    reads = () if metric.positions == "last" else (targets.answer.shape[1],)
    # One example stands in a batch with itself under other cells: of two rows it shows whether they are apart.
    rows_tried = torch.arange(len(targets)) if len(targets) > 1 else torch.zeros(2, dtype=torch.long)
    for rows in torch.split(rows_tried, 16):
        metric(torch.randn(len(rows), *reads, vocabulary, generator=generator), targets.select(rows))


def _made(
    model: NnsightModel, reading: Reading, cells: Sequence[Interventions]
) -> tuple[list[tuple[int, Recipe]], Program]:
    """What is to be done to a batch, once for each cell."""
    mask = reading.tokens.mask
    recipes = model.recipes([(number, _edits(model, cell)) for number, cell in enumerate(cells)])
    now = Pass(mask, mask.shape[1], mask, first_row=reading.first_row)
    return recipes, model.programs.of(recipes, (), None, now)


def _traced(
    model: NnsightModel, reading: Reading, targets: Targets, metric: Metric, cells: Sequence[Interventions]
) -> Float[Tensor, "cell example"]:
    """Some examples under some cells, in one trace."""
    tokens, n = reading.tokens, len(cells)
    _, program = _made(model, reading, cells)
    stacked = Tokens(tokens.ids.repeat(n, 1), tokens.mask.repeat(n, 1))
    told = _sent(model, stacked, program, reading.columns.repeat(n, 1), metric, targets, n)
    if told["spoilt"]:
        raise InterventionError("the logits under a cell hold NaN: look at the interventions' values")
    return _checked(told["values"], metric, n * len(targets)).view(n, -1)


def _sent(
    model: NnsightModel, tokens: Tokens, program: Program, columns: Tensor, metric: Metric, targets: Targets, n: int
) -> dict[str, Any]:
    from nnsight import save

    where, settings = model.reads(columns)
    each = targets.select(torch.arange(len(targets)).repeat(n))
    answers = far_side.Answers(each.answer, each.distractor, each.clean_logits, each.answer_text)
    traced, batch, remote, last = model.traced, model.inputs(tokens), model.remote, metric.positions == "last"
    measured, compute = far_side.measure, metric.compute
    with torch.no_grad(), traced.trace(batch, remote=remote, **settings):
        told = save(measured(traced, program, where, last, compute, answers))
    result: dict[str, Any] = told
    return result


def _checked(values: Any, metric: Metric, n: int) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != (n,):
        got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"metric {metric.name!r} must give one value per example, a tensor of [{n}]; it gave {got}")
    if bool(torch.isnan(values).any()):
        raise ValueError(f"metric {metric.name!r} is NaN under a cell; look at the logits there")
    return values
