"""Which edges a circuit is made of: the strongest, those over a threshold, those on a way through, those grown.

All of it is done on whole arrays, since a graph of a large model has millions of edges: what is looped over is layers
or nodes. Strengths are what edges are ranked by, most first; equal ones are ranked by place, row before column.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from circuitkit.circuits.graphs.layout import Layout

Members = Bool[np.ndarray, "sources destinations"]
Strengths = Float[np.ndarray, "sources destinations"]


def strongest(strengths: Strengths, members: Members, n: int) -> Members:
    """The `n` strongest members; all where there are no more.

    >>> strongest(np.array([[3.0, 1.0, 3.0]]), np.array([[True, True, True]]), 2).tolist()
    [[True, False, True]]
    """
    values = strengths[members]
    if n >= len(values):
        return members.copy()
    chosen = np.zeros(len(values), dtype=bool)
    if n > 0:
        last = np.partition(values, len(values) - n)[len(values) - n]
        chosen = values > last
        level = np.flatnonzero(values == last)
        chosen[level[: n - int(chosen.sum())]] = True
    kept = np.zeros_like(members)
    kept[members] = chosen
    return kept


def on_a_way(layout: Layout, members: Members) -> Members:
    """The members that lie on some way from the input to the logits.

    That is what is left once edges into nodes that nothing leads out of, and out of nodes that nothing leads into, are
    dropped again and again. A key or value that heads share is read as long as one of them is.

    >>> layout = Layout((1,), (1,), (False,))
    >>> dead_end = layout.reach.numpy() & (np.array(layout.destinations) != "logits")
    >>> bool(on_a_way(layout, dead_end).any())
    False
    """
    led, read = led_into(layout, members), read_on(layout, members)
    kept: Members = members & led[:, None] & read[None, :]
    return kept


def touched(layout: Layout, members: Members) -> Bool[np.ndarray, " sources"]:
    """Which nodes are in the circuit: those that a member leads out of, or into.

    A key or value that heads share belongs to those of them that something leads out of; where there are none such, to
    all. So heads are not in a circuit merely since another head of their group is.

    >>> layout = Layout((2,), (1,), (False,))
    >>> members = np.zeros(layout.reach.shape, dtype=bool)
    >>> members[0, layout.destination("a0.kv0<k>")] = members[layout.source("a0.h1"), layout.logits_at] = True
    >>> touched(layout, members).tolist()
    [True, False, True, False]
    """
    leading = np.asarray(members.any(1))
    reads = layout.reads.numpy()
    dead_ends = np.asarray(members.any(0)) & ~reads[leading].any(0)
    found: Bool[np.ndarray, " sources"] = leading | reads[:, dead_ends].any(1)
    return found


def led_into(layout: Layout, members: Members) -> Bool[np.ndarray, " sources"]:
    """Which nodes the members lead into from the input, which itself counts as led into."""
    led = np.zeros(len(layout.sources), dtype=bool)
    led[0] = True
    for layer in range(layout.n_layers):
        rows, heads, columns = layout.before_attention(layer), layout.heads_at(layer), layout.attention_at(layer)
        reached = members[rows, columns][led[rows]].any(0)
        led[heads] = (layout.reads.numpy()[heads, columns] & reached).any(1)
        rows = layout.before_mlp(layer)
        led[layout.mlp_at(layer)] = members[rows, layout.mlp_input_at(layer)][led[rows]].any()
    return led


def read_on(layout: Layout, members: Members) -> Bool[np.ndarray, " destinations"]:
    """Which destinations the members lead on from to the logits, which themselves count as read."""
    read = np.zeros(len(layout.destinations), dtype=bool)
    read[layout.logits_at] = True
    for layer in reversed(range(layout.n_layers)):
        mlp, at = layout.mlp_at(layer), layout.mlp_input_at(layer)
        read[at] = (members[mlp, at:] & read[at:]).any()
        heads, columns = layout.heads_at(layer), layout.attention_at(layer)
        on = (members[heads, columns.stop :] & read[columns.stop :]).any(1)
        read[columns] = layout.reads.numpy()[heads, columns][on].any(0)
    return read


def grown(layout: Layout, strengths: Strengths, members: Members, n: int) -> Members:
    """`n` members grown backwards from the logits: next always the strongest whose destination's node is in already.

    A node is in once an edge out of it was taken. Gives fewer where no more members lead there.

    >>> layout = Layout((1,), (1,), (False,))
    >>> strengths = np.zeros(layout.reach.shape)
    >>> strengths[0, layout.mlp_input_at(0)] = 9.0
    >>> strengths[layout.mlp_at(0), layout.logits_at] = 1.0
    >>> grown(layout, strengths, layout.reach.numpy(), 2)[:, layout.logits_at].tolist()
    [False, False, True]
    """
    ranks = _ranks(strengths, members)
    opened, turning = _joined(layout, ranks, n)
    order = np.full(ranks.shape, np.iinfo(np.int64).max)
    # The turning ranks are what the edges that bring in a node have: an edge is taken before the first turn, since its
    # destination was in, that lies behind it.
    for turn in np.unique(opened[opened >= 0]):
        columns = opened == turn
        highest = np.maximum.accumulate(turning[turn:])
        stage = turn + np.searchsorted(highest, ranks[columns])
        order[columns] = stage * ranks.size + ranks[columns]
    taken = np.flatnonzero(((opened >= 0)[:, None] & members.T).ravel())
    places = order.ravel()[taken]
    if n < len(taken):
        taken = taken[np.argpartition(places, n)[:n]] if n else taken[:0]
    kept = np.zeros(order.size, dtype=bool)
    kept[taken] = True
    return kept.reshape(order.shape).T.copy()


def _ranks(strengths: Strengths, members: Members) -> Int[np.ndarray, "destinations sources"]:
    """Each member's rank, 0 the strongest, no two alike; what is no member ranks behind all."""
    ranks = np.full(members.shape, members.size, dtype=np.int64)
    values = strengths[members]
    order = np.argsort(-values, kind="stable")
    ranked = np.empty(len(values), dtype=np.int64)
    ranked[order] = np.arange(len(values))
    ranks[members] = ranked
    return np.ascontiguousarray(ranks.T)


def _joined(
    layout: Layout, ranks: Int[np.ndarray, "destinations sources"], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """After how many nodes each destination is in (−1: never), and the rank of the edge that brings in each node."""
    never = ranks.size
    opened = np.full(len(layout.destinations), -1, dtype=np.int64)
    opened[layout.logits_at] = 0
    best, waiting = ranks[layout.logits_at].copy(), np.ones(len(layout.sources), dtype=bool)
    turning: list[int] = []
    while len(turning) < n:
        candidates = np.where(waiting, best, never)
        node = int(candidates.argmin())
        if candidates[node] == never:
            break
        waiting[node] = False
        turning.append(int(candidates[node]))
        columns = np.flatnonzero(layout.reads.numpy()[node] & (opened < 0))
        if len(columns):
            opened[columns] = len(turning)
            best = np.minimum(best, ranks[columns].min(0))
    return opened, np.array(turning, dtype=np.int64)
