"""Sets of modules, and as many parameters of other modules in each layer, to set beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from circuitkit.model.roles import GROUPS, ROLES
from circuitkit.sfn import Part

PROJECTIONS = (*GROUPS["attention"], *GROUPS["mlp"])
ALWAYS = ROLES[7:]
"""Embedding, unembedding and norms, without which the paper's trainings did not converge."""

Kind = Literal["slices", "rows"]
Rows = list[tuple[Part, np.ndarray]]
"""Parts of a model, and which of their rows: the weights of single outputs."""


@dataclass(frozen=True)
class Modules:
    """Modules by their roles, wholly and in all layers or some.

    Attributes:
        name: what tables call them.
        roles: of the modules.
        layers: all if None.
    """

    name: str
    roles: tuple[str, ...]
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Control:
    """In each layer as many parameters as some modules have, taken from others.

    Attributes:
        kind: "slices" takes whole modules in the order of `of`, and of the last one random rows; "rows" takes random
            rows of all modules of `of`.
        like: roles whose number of parameters is matched.
        of: roles that are taken from.
        draw: of the random rows.
        layers: all if None.
    """

    kind: Kind
    like: tuple[str, ...]
    of: tuple[str, ...]
    draw: int
    layers: tuple[int, ...] | None = None


def sets(roles: Sequence[str]) -> list[Modules]:
    """What is grafted, trained and destroyed: the paper's three sets, and every single projection that a model has."""
    there = tuple(role for role in PROJECTIONS if role in roles)
    grouped = [("q, k, v", ("q_proj", "k_proj", "v_proj")), ("mlp", GROUPS["mlp"])]
    found = [Modules("o_proj", ("o_proj",))] if "o_proj" in there else []
    for name, of in grouped:
        if len(own := tuple(role for role in of if role in there)) > 1:
            found.append(Modules(name, own))
    return found + [Modules(role, (role,)) for role in there if role != "o_proj"]


def sizes(parts: Sequence[Part], roles: Sequence[str]) -> dict[int, int]:
    """By layer, the parameters of some roles' matrices."""
    found: dict[int, int] = {}
    for part in matrices(parts, roles):
        if part.layer is not None:
            found[part.layer] = found.get(part.layer, 0) + part.numel
    return found


def matrices(parts: Sequence[Part], roles: Sequence[str]) -> list[Part]:
    """The parts of some roles, without biases."""
    return [part for part in parts if set(part.roles) & set(roles) and not part.bias]


def controls(parts: Sequence[Part], modules: Modules, kind: Kind, n: int) -> list[Control]:
    """So many draws of a control; whole modules alone may be drawn several times.

    Slices are taken from the other projections, in a random order, and only where those are too few from the set's own.
    Random rows are taken from all projections, the set's own among them. Draws depend on the number alone and on the
    set's size, so that sets of one size have controls in common.
    """
    there = [role for role in PROJECTIONS if sizes(parts, (role,))]
    # Sets of one size are matched by the first of them, so that the same control has one name.
    wanted = sizes(parts, modules.roles)
    like = next(each.roles for each in sets(there) if sizes(parts, each.roles) == wanted)
    if kind == "rows":
        return [Control("rows", like, tuple(there), draw, modules.layers) for draw in range(n)]
    found = []
    for draw in range(n):
        order = np.random.default_rng([draw, len(there)]).permutation(there).tolist()
        order = [role for role in order if role not in modules.roles] + [
            role for role in order if role in modules.roles
        ]
        of, whole = _needed(parts, wanted, order)
        found.append(Control("slices", like, of, 0 if whole else draw, modules.layers))
    return found


def _needed(parts: Sequence[Part], wanted: Mapping[int, int], order: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The first roles of an order that hold as many parameters in every layer, and whether exactly as many."""
    for n in range(1, len(order) + 1):
        have = sizes(parts, order[:n])
        if all(have.get(layer, 0) >= number for layer, number in wanted.items()):
            return tuple(order[:n]), have == dict(wanted)
    return tuple(order), False


def drawn(parts: Sequence[Part], control: Control) -> Rows:
    """The rows of a control in a model.

    Raises:
        ValueError: a layer has fewer parameters in the roles that are taken from.
    """
    chosen: Rows = []
    for layer, number in sizes(parts, control.like).items():
        if control.layers is not None and layer not in control.layers:
            continue
        rng = np.random.default_rng([control.draw, layer])
        here = [part for part in parts if part.layer == layer]
        if sum(part.numel for part in matrices(here, control.of)) < number:
            raise ValueError(f"layer {layer} has fewer than {number} parameters in {', '.join(control.of)}")
        chosen += (_slices if control.kind == "slices" else _rows)(here, control.of, number, rng)
    return chosen


def _slices(here: Sequence[Part], of: Sequence[str], number: int, rng: np.random.Generator) -> Rows:
    found: Rows = []
    for role in of:
        for part in matrices(here, (role,)):
            n_rows = part.shape[part.out_axis]
            taken = min(n_rows, round(number / (part.numel // n_rows)))
            if taken > 0:
                found.append((part, np.sort(rng.choice(n_rows, taken, replace=False))))
                number -= taken * (part.numel // n_rows)
    return found


def _rows(here: Sequence[Part], of: Sequence[str], number: int, rng: np.random.Generator) -> Rows:
    parts = matrices(here, of)
    lengths = np.concatenate([np.full(part.shape[part.out_axis], _row_length(part)) for part in parts])
    owners = np.concatenate([np.full(part.shape[part.out_axis], at) for at, part in enumerate(parts)])
    places = np.concatenate([np.arange(part.shape[part.out_axis]) for part in parts])
    order = rng.permutation(len(lengths))
    # The number of rows whose sum comes nearest.
    sums = np.cumsum(lengths[order])
    kept = order[: int(np.abs(sums - number).argmin()) + 1]
    return [
        (part, np.sort(places[kept][owners[kept] == at])) for at, part in enumerate(parts) if (owners[kept] == at).any()
    ]


def _row_length(part: Part) -> int:
    return part.numel // part.shape[part.out_axis]


def parameters(rows: Rows) -> int:
    """How many parameters some rows have."""
    return sum(len(which) * _row_length(part) for part, which in rows)


def whole_matrices(parts: Sequence[Part], modules: Modules, n: int, tolerance: float = 0.05) -> list[tuple[str, ...]]:
    """Random sets of whole matrices of other projections, in any layers, with about as many parameters: their names.

    What a training library can freeze is whole tensors, so that these stand beside a set that is trained.

    Args:
        n: how many sets; fewer where there are no more.
        tolerance: by how much of the set's size theirs may differ.
    """
    own = {part.parameter for part in matrices(parts, modules.roles)}
    others = {part.parameter: part.numel for part in matrices(parts, PROJECTIONS) if part.parameter not in own}
    wanted = sum(part.numel for part in matrices(parts, modules.roles))
    found: dict[tuple[str, ...], None] = {}
    for draw in range(200 * n):
        chosen, total = [], 0
        for name in np.random.default_rng(draw).permutation(sorted(others)).tolist():
            if total + others[name] <= (1 + tolerance) * wanted:
                chosen.append(name)
                total += others[name]
        if total >= (1 - tolerance) * wanted:
            found[tuple(sorted(chosen))] = None
        if len(found) == n:
            break
    return list(found)
