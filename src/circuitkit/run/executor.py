"""The executor: a study hands it cells and a metric, and gets one number per cell and example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit.metrics import Metric, Targets
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import Reading
from circuitkit.run.interventions import Interventions
from circuitkit.run.run import forward
from circuitkit.run.session import Session

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def measure(
    model: Model,
    prompts: Tokens,
    targets: Targets,
    metric: Metric,
    cells: Sequence[Interventions],
    *,
    title: str = "",
    progress: bool = True,
) -> Float[Tensor, "cell example"]:
    """Run every cell on the prompts and measure each example under it.

    A cell is a set of interventions; the empty one is the baseline, which the studies run through here too so that it
    takes the same way through the model as the cells.

    Raises:
        InterventionError: a cell never took place.
        ValueError: the metric does not fit the targets.
    """
    reading = Reading.of(prompts, targets, metric)
    values: list[Tensor] = []
    with torch.no_grad():
        for interventions in tqdm(cells, desc=title, unit="cell", leave=False, disable=not progress, delay=1.0):
            session = Session(model, interventions, ())
            session.run_on(reading.tokens)
            with session:
                logits = forward(model, reading.tokens, reading.columns)
            values.append(
                metric(logits[:, 0] if metric.positions == "last" else logits, targets.to(logits.device)).cpu()
            )
    return torch.stack(values) if values else torch.empty(0, len(prompts))


def logits_read(
    model: Model, prompts: Tokens, targets: Targets, metric: Metric
) -> Float[Tensor, "example *reads vocab"]:
    """The logits that a metric reads without interventions: what a divergence from the clean run is held against."""
    reading = Reading.of(prompts, targets, metric)
    with torch.no_grad():
        logits = forward(model, reading.tokens, reading.columns)
    return logits[:, 0] if metric.positions == "last" else logits
