"""What circuits do alone: one number an example under each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit import metrics
from circuitkit.circuits.attributing.alignment import Align
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.circuits.evaluating.running import Runs, RunSettings
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.metrics import Compute, Metric
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def run_circuit(
    model: Model,
    graph: Graph,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    ablation: Ablation = "patch",
    *,
    align: Align = "tokens",
    reference: Prompts | None = None,
    by_position: bool | None = None,
    batch_size: int | None = None,
    budget: int | None = None,
    progress: bool = True,
) -> Float[Tensor, " example"]:
    """Measure what a circuit does alone: the clean run with every edge outside the circuit replaced, exactly.

    Each destination reads what its sources in the circuit write in this very run, and what the others write in the
    replacement. Nothing is linearised: each head's query, key and value, and each MLP, is computed of the stream that
    it reads. With every edge in, this is the clean run; with none, the corrupt one (`ablation="patch"`).

    Args:
        model: the model.
        graph: its `members` are the circuit.
        pairs: clean and corrupt prompts.
        metric: what is measured of the run.
        ablation: what edges outside the circuit carry: "patch", what their source writes in the corrupt run; "mean",
            what it writes in the corrupt prompts on average; "zero", nothing (biases stay).
        align: which positions of corrupt prompts stand for which of the clean; a clean position without a counterpart
            keeps what this run writes there. See `attribute`.
        reference: the prompts that means are over, in place of the corrupt ones.
        by_position: whether a mean is taken at each position, counted from the first token, over the prompts that
            reach it; by default where all prompts have one length, as MIB does, and over all positions elsewhere.
        batch_size: examples at a time; by default what memory and the machine are good for.
        budget: bytes that a batch may take.
        progress: show a bar.

    Returns:
        The metric of each example, in the pairs' order.

    Raises:
        CircuitError: the graph is of another architecture, the ablation is unknown or has no such setting, or the
            model's heads and MLPs cannot be computed apart.
        PairError: pairs that cannot be aligned.
        ValueError: the metric does not fit the targets, or gives no value an example.

    Source: Hanna et al. 2024, arXiv 2403.17806; means as in Mueller et al. 2025 (MIB), arXiv 2504.13151.

    >>> model, pairs = ck.load("deductor-5k"), ck.Pairs(["Fae is a lempus."], ["Fae is a wumpus."], [" Fae"], [" Rex"])
    >>> graph = ck.circuits.attribute(model, pairs, progress=False)
    >>> run_circuit(model, graph.top(20), pairs, progress=False).shape
    torch.Size([1])
    """
    return run_circuits(
        model,
        [graph],
        pairs,
        metric,
        ablation,
        align=align,
        reference=reference,
        by_position=by_position,
        batch_size=batch_size,
        budget=budget,
        progress=progress,
    )[0]


def run_circuits(
    model: Model,
    graphs: Sequence[Graph],
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    ablation: Ablation = "patch",
    **settings: Unpack[RunSettings],
) -> Float[Tensor, "circuit example"]:
    """Measure many circuits of one model, run side by side; see `run_circuit`, whose settings these are.

    Raises:
        CircuitError: there are no circuits, or see `run_circuit`.
    """
    if not graphs:
        raise CircuitError("there are no circuits to run")
    for graph in graphs:
        graph.check_fits(model)
    members = torch.stack([graph.members for graph in graphs])
    return Runs.of(model, pairs, metric, ablation, **settings).measured(members)
