"""What a found circuit is held against: random circuits, and the edges of the largest magnitudes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit import metrics
from circuitkit.circuits.attributing.alignment import Align, Aligned
from circuitkit.circuits.attributing.linear_maps import by_heads, matrix_of
from circuitkit.circuits.attributing.written import Differences, Written
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.choosing import Choice
from circuitkit.circuits.graphs.convention import Convention
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Compute, Metric, as_metric
from circuitkit.model import roles
from circuitkit.model.devices import weight_of
from circuitkit.model.site import Kind, Site
from circuitkit.pairs import Pairs
from circuitkit.records import provenance
from circuitkit.run.memory import memory
from circuitkit.run.run import forward

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Match = Literal["actual", "requested"]
Members = Bool[Tensor, "sources destinations"]
_READ_BY: tuple[Kind, ...] = ("q", "k", "v")


def random_circuits(
    layout: Layout, choices: Sequence[Choice], sizes: Sequence[int], draws: int, match: Match = "actual", seed: int = 0
) -> list[list[Members]]:
    """Random circuits beside found ones: for each draw one of each size, growing as those do.

    A draw ranks all edges at random and is then cut as the found circuits were. Random edges seldom join, so that
    pruning leaves few of them: with `match="actual"` as many more are taken until the circuit has at least the edges
    that the found one has left.

    Args:
        layout: the nodes.
        choices: the rules by which found circuits were cut.
        sizes: how many edges each of these has left.
        draws: how many of each.
        match: by the edges that are left, or those that were asked for.
        seed: of the ranks.

    Raises:
        CircuitError: there is no such match.

    >>> layout = Layout((2, 2), (2, 2), (False, False))
    >>> [[int(one.sum()) >= 6 for one in draw] for draw in random_circuits(layout, [Choice(9)], [6], draws=2)]
    [[True], [True]]
    """
    if match not in ("actual", "requested"):
        raise CircuitError(f"random circuits match the found one's 'actual' or 'requested' edges, not {match!r}")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        ranks = rng.random(layout.reach.shape)
        drawn.append(
            [_matching(layout, ranks, choice, size, match) for choice, size in zip(choices, sizes, strict=True)]
        )
    return drawn


def _matching(
    layout: Layout, ranks: Float[np.ndarray, "sources destinations"], choice: Choice, size: int, match: Match
) -> Members:
    """The circuit of a random ranking with the fewest edges that are at least as many."""
    # Strength is chance here, so signs and magnitudes are alike.
    ranked = replace(choice, by="absolute")
    if match == "requested" or not choice.prune or choice.n is None:
        return torch.from_numpy(ranked.members(layout, ranks))
    # More edges leave more after pruning, so the number is found by halving.
    low, high = min(size, layout.n_edges), layout.n_edges
    while low < high:
        middle = (low + high) // 2
        if int(replace(ranked, n=middle).members(layout, ranks).sum()) >= size:
            high = middle
        else:
            low = middle + 1
    return torch.from_numpy(replace(ranked, n=low).members(layout, ranks))


def magnitudes(
    model: Model,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    *,
    align: Align = "tokens",
    batch_size: int | None = None,
    progress: bool = True,
) -> Graph:
    """Score each edge by how large it is, whatever it does: what a method of attribution has to beat.

    The score of u→v is |D_u| / |x_v| · |W_v|, averaged over examples and over the positions where v is read (at the
    logits the last, or the answer's): the length of what u writes in the corrupt run less what it writes in the clean
    one, beside that of the clean stream that v reads, which a norm divides by; times the root mean square length of the
    rows of the matrix by which v reads (a head's part of the query, key or value projection, the MLP's input matrices,
    the unembedding). So it is of the order of what a number that v computes would move by, were directions random. No
    gradient is taken; of the metric it matters alone where it reads.

    Raises:
        CircuitError: weights that are no numbers (quantised), or see `circuitkit.circuits.attribute`.
        PairError: pairs that cannot be aligned.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=2)
    >>> magnitudes(model, pairs, progress=False).convention.method
    'magnitude'
    """
    layout = Layout.of(model)
    aligned = Aligned.of(model, pairs, as_metric(metric), align)
    moved = torch.zeros(len(layout.sources), len(layout.destinations), dtype=torch.float64)
    starts = range(0, len(aligned), _rows_at_once(model, aligned, batch_size))
    for start in tqdm(starts, desc="magnitudes", unit="batch", disable=not progress, delay=1.0):
        moved += _moved(model, layout, aligned.part(slice(start, min(start + starts.step, len(aligned)))))
    scores = moved / len(aligned) * _read_by(model, layout)
    return Graph(
        layout,
        (scores * layout.reach).float(),
        layout.reach,
        Convention("magnitude", "none", examples="mean-absolute", positions="sum-absolute", positive="unknown"),
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=[aligned.clean.tokens.ids, aligned.corrupt.tokens.ids],
            study="circuits.magnitudes",
        ),
    )


def _rows_at_once(model: Model, aligned: Aligned, batch_size: int | None) -> int:
    if batch_size is not None:
        return batch_size
    # Two runs' z and MLP output of each layer, and its streams; a layer's heads apart.
    tensors = 7 * model.n_layers + 2 * max(model.n_heads(layer) for layer in range(model.n_layers))
    a_row = 4 * tensors * model.d_model * aligned.clean.tokens.ids.shape[1]
    return max(1, min(len(aligned), memory(model, None) // a_row))


def _moved(model: Model, layout: Layout, part: Aligned) -> Float[Tensor, "source destination"]:
    """How far each source moves beside each destination's stream, mean over positions, summed over examples."""
    with torch.no_grad():
        differences = Differences(model, part, Written.of(model, part.clean), Written.of(model, part.corrupt))
        weights = _beside_streams(model, layout, part)
        rows = []
        for block in _blocks(layout):
            lengths = differences.block(block).norm(dim=-1).to(weights)
            rows.append(torch.einsum("sbp,dbp->sd", lengths, weights).double().cpu())
    return torch.cat(rows)


def _blocks(layout: Layout) -> list[slice]:
    """The input's row, then each layer's."""
    layers = range(layout.n_layers)
    return [slice(0, 1), *(slice(layout.heads_at(layer).start, layout.mlp_at(layer) + 1) for layer in layers)]


def _beside_streams(model: Model, layout: Layout, part: Aligned) -> Float[Tensor, "destination batch position"]:
    """One by the length of the clean stream that each destination reads, and by how many positions it is read at."""
    tokens, columns = part.clean.tokens, part.clean.columns
    last = model.n_layers - 1
    named: list[Site | str] = ["resid_pre", Site("resid_post", layer=last)]
    named += [] if all(layout.parallel) else ["resid_mid"]
    with model.intervene((), capture=named) as session:
        forward(model, tokens, columns)

    def beside(kind: Kind, layer: int, at: Tensor | None = None) -> Float[Tensor, "batch position"]:
        stream = session.cache[Site(kind, layer=layer)].to(model.device).float()
        mask = tokens.mask.to(stream.device) if at is None else at.to(stream.device)
        lengths: Tensor = stream.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        return mask / lengths / mask.sum(1, keepdim=True)

    weights = torch.zeros(len(layout.destinations), *tokens.ids.shape, device=model.device)
    for layer, parallel in enumerate(layout.parallel):
        weights[layout.attention_at(layer)] = before = beside("resid_pre", layer)
        weights[layout.mlp_input_at(layer)] = before if parallel else beside("resid_mid", layer)
    read = torch.zeros_like(tokens.mask).scatter_(1, columns.to(tokens.mask.device), True)
    weights[layout.logits_at] = beside("resid_post", last, read)
    return weights


def _read_by(model: Model, layout: Layout) -> Float[Tensor, " destination"]:
    """The root mean square length of the rows of the matrix by which each destination reads."""
    read = torch.zeros(len(layout.destinations), dtype=torch.float64)
    having = roles.parameters(model)
    for layer in range(layout.n_layers):
        columns = (layout.queries_at(layer), layout.keys_at(layer), layout.values_at(layer))
        for kind, at in zip(_READ_BY, columns, strict=True):
            point = model.point(Site(kind, layer=layer))
            matrix = by_heads(point, matrix_of(point.module, model.d_model, model.hf.dtype))
            read[at] = matrix.detach().double().square().sum(-1).mean(-1).sqrt().cpu()
        inside = roles.in_layers(model, [layer])
        names = [name for name, found in having.items() if inside.get(name) and {"gate_proj", "up_proj"} & {*found}]
        read[layout.mlp_input_at(layer)] = _row_length(model, names, f"the MLP of layer {layer}")
    names = [name for name, found in having.items() if "lm_head" in found]
    read[layout.logits_at] = _row_length(model, names, "the unembedding")
    return read


def _row_length(model: Model, names: Sequence[str], what: str) -> float:
    """The root mean square length of the rows, `d_model` wide, of some matrices taken together."""
    squares, rows = 0.0, 0.0
    for name in names:
        weight = _weight(model, name)
        if weight.ndim < 2:
            continue
        if not weight.is_floating_point():
            raise CircuitError(
                f"{what} of {model.name} is quantised ({name}), so it has no magnitudes: magnitude=False"
            )
        squares += float(weight.detach().double().square().sum())
        rows += weight.numel() / model.d_model
    if not rows:
        raise CircuitError(f"{model.name} names no weights of {what}, so it has no magnitudes: magnitude=False")
    return float(np.sqrt(squares / rows))


def _weight(model: Model, name: str) -> Tensor:
    module, _, last = name.rpartition(".")
    held = weight_of(model.anatomy.root.get_submodule(module), last)
    assert held is not None  # named by its own root
    return held
