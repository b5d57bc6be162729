"""Planted models with their circuits as graphs."""

from functools import cache

import torch

import circuitkit as ck
from circuitkit.circuits import Convention, Graph, Layout
from circuitkit.model import planted

built = cache(planted.build)


@cache
def planted_circuit(name: str) -> tuple[ck.Model, Graph]:
    """The model and the circuit that was planted in it."""
    planned = built(name)
    model = ck.Model(planned.model, planned.tokenizer, name=name)
    layout = Layout.of(model)
    members = torch.zeros_like(layout.reach)
    for source, destination in planned.edges():
        members[layout.source(source), layout.destination(destination)] = True
    scores = torch.zeros(layout.reach.shape)
    return model, Graph(layout, scores, members, Convention("planted", "logit_difference"))


def planted_pairs(name: str, n: int = 4) -> ck.Pairs:
    clean, corrupt, answer, distractor = built(name).pairs(n, length=14)
    return ck.Pairs(clean, corrupt, answer, distractor, groups=[0, 0, 1, 2][:n] if n <= 4 else None)
