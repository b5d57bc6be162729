"""Small graphs of any architecture, with scores of which many are equal."""

import torch
from hypothesis import strategies as st

from circuitkit.circuits import Convention, Graph, Layout

CONVENTION = Convention("eap", "logit_difference", "logits")

layouts = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.booleans()).map(lambda each: (each[0] * each[1], *each[1:])),
    min_size=1,
    max_size=3,
).map(lambda layers: Layout(*(tuple(column) for column in zip(*layers, strict=True))))


def graph_of(layout: Layout, seed: int = 0, density: float = 1.0, most: int = 3) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    shape = layout.reach.shape
    scores = torch.randint(-most, most + 1, shape, generator=generator).float() * layout.reach
    members = (torch.rand(shape, generator=generator) < density) & layout.reach
    return Graph(layout, scores, members, CONVENTION)


graphs = st.builds(graph_of, layouts, seed=st.integers(0, 2**20), density=st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]))


def named(graph: Graph) -> set[tuple[str, str]]:
    layout = graph.layout
    return {(layout.sources[row], layout.destinations[column]) for row, column in graph.members.nonzero().tolist()}


def readers(layout: Layout) -> dict[str, set[str]]:
    """By which nodes each destination is read."""
    return {
        name: {node for node in layout.nodes if column in layout.inputs_of(node)}
        for column, name in enumerate(layout.destinations)
    }
