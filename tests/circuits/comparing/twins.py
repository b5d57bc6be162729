"""A planted model, and its twin in which one head of the circuit writes noise: what grafting that head in would add."""

import copy

import torch

import circuitkit as ck
from circuitkit.model import planted


def with_noise(plant: planted.Planted, head: tuple[int, int], seed: int) -> ck.Model:
    """The planted model, but that a head's slice of the output projection is noise of the same norm."""
    model = ck.Model(copy.deepcopy(plant.model), plant.tokenizer)
    projection = model.point(ck.Site("z", layer=head[0])).module
    d_head = model.layers[head[0]].d_head
    inputs = slice(head[1] * d_head, (head[1] + 1) * d_head)
    # A Conv1D of GPT-2 keeps its inputs as rows, a Linear as columns.
    weight = projection.weight.data[inputs] if plant.name.endswith("gpt2") else projection.weight.data[:, inputs]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    weight.copy_(noise / noise.norm() * weight.norm())
    return model


def pairs_of(plant: planted.Planted, n: int, seed: int) -> ck.Pairs:
    drawn = plant.pairs(n, seed)
    return ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
