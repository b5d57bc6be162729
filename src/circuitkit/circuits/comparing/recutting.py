"""By which rule a circuit was cut out of its scores, found again from the circuit, so that resamples use it too."""

from __future__ import annotations

import numpy as np

from circuitkit.circuits.evaluating.choosing import Choice
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph

_BY: tuple[By, ...] = ("absolute", "signed")


def rule_of(graph: Graph) -> Choice | None:
    """A rule that gives exactly the graph's circuit from its scores; None where no rule that is known does.

    Tried are the strongest edges, by magnitude and by sign, pruned or not, and those grown from the logits. A circuit
    cut by a threshold is found as that of so many strongest edges.

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> scores = torch.arange(32.0, 0.0, -1.0).view(4, 8) * layout.reach
    >>> graph = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> str(rule_of(graph.top(9).prune()))
    '8 strongest edges by magnitude, pruned'
    """
    if not graph.size:
        return None
    reach, members = graph.layout.reach.numpy(), graph.members.numpy()
    for by in _BY:
        if by == "signed" and (graph.convention.magnitudes or graph.convention.positive == "unknown"):
            continue
        strengths = graph.convention.strengths(graph.scores, by).numpy()
        # What pruning takes away is needed by nothing that stays, so the last that stays can end the list.
        order = np.argsort(-strengths[reach], kind="stable")
        last = 1 + int(np.flatnonzero(members[reach][order])[-1])
        tried = [Choice(last, None, by, "top", prune) for prune in (False, True)]
        tried += [Choice(graph.size, None, by, "greedy", prune) for prune in (False, True)]
        for choice in tried:
            if np.array_equal(choice.members(graph.layout, strengths), members):
                return choice
    return None
