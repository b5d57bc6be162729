"""Which parts of a checkpoint are meant by modules, layers and heads, and what they are held against in another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from operator import index
from typing import TYPE_CHECKING, Literal

from circuitkit.model.roles import GROUPS, ROLES
from circuitkit.sfn.errors import PairError, SelectionError
from circuitkit.sfn.streams.computed import without_unused
from circuitkit.sfn.streams.parts import Part

if TYPE_CHECKING:
    from circuitkit.sfn.streams.checkpoint import Checkpoint

Vocabulary = Literal["refuse", "leave-out"]

_OUTSIDE = frozenset(("embed", "lm_head"))
_ATTENTION = frozenset(GROUPS["attention"])
_MATRICES = frozenset((*GROUPS["attention"], *GROUPS["mlp"], *_OUTSIDE))


@dataclass(frozen=True)
class Paired:
    """A part of A, and the part of B that is held against it.

    Attributes:
        a, b: of the same shape; where one of the checkpoints ties its unembedding, its embedding stands for that.
        roles: that both have.
    """

    a: Part
    b: Part
    roles: tuple[str, ...]


def select(
    parts: Sequence[Part],
    modules: str | Iterable[str],
    layers: int | Iterable[int] | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    *,
    biases: bool,
    name: str,
) -> tuple[Part, ...]:
    """The parts that modules, layers and heads stand for, in the order in which they are stored.

    Args:
        parts: of a checkpoint or a model in memory, all of them.
        modules: roles (`o_proj`), groups (`attention`, `mlp`), "all", or names of modules or parameters, `*` standing
            for any text. Norms and embeddings are taken only where they are named, or by "all".
        layers: only parts of these layers, negative ones from the end, and embed and lm_head where they are named; all
            if None.
        heads: pairs of layer and head: of each attention projection that is chosen, these heads alone.
        biases: take the biases of matrices that roles and groups stand for; names and "all" take theirs always.
        name: of the checkpoint, for messages.

    Raises:
        SelectionError: there is no such module, layer or head, or it is not to be had alone.
    """
    wanted = (modules,) if isinstance(modules, str) else tuple(modules)
    if not wanted:
        return ()
    found = _of_modules(parts, wanted, biases=biases, name=name)
    within = None if layers is None else numbered(layers, _layers(parts), name)
    if within is not None:
        found = _in_layers(found, wanted, within)
    of = None if heads is None else tuple(heads)
    if of is not None:
        found = _of_heads(parts, found, of, name)
    if not found:
        told = "" if within is None else f" in layers {list(within)}"
        told += "" if of is None else f" and of heads {list(of)}"
        raise SelectionError(f"{', '.join(wanted)}{told} leaves nothing of {name}")
    return found


def numbered(layers: int | Iterable[int], count: int, name: str) -> tuple[int, ...]:
    """Layers by their numbers from 0, each once, in the order in which they are named.

    Args:
        layers: one or several, negative ones from the end.
        count: how many there are.
        name: of the checkpoint, for messages.

    Raises:
        SelectionError: there is no such layer.

    >>> numbered([-1, 0, 2], 3, "toy")
    (2, 0)
    """
    found: dict[int, None] = {}
    for each in layers if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]:
        try:
            layer = index(each)
        except TypeError as error:
            raise SelectionError(f"layers are whole numbers, such as 0 or -1, not {each!r}") from error
        if not -count <= layer < count:
            raise SelectionError(f"layer {layer} does not exist: {name} has layers 0 to {count - 1}")
        found[layer % count] = None
    return tuple(found)


def pair(
    a: Checkpoint, b: Checkpoint, parts: Sequence[Part] | None = None, *, vocabulary: Vocabulary = "refuse"
) -> tuple[Paired, ...]:
    """The parts of A, each with what it is held against in B.

    Args:
        a, b: of one architecture; they may differ in dtype, in shards, and in whether the embedding is tied.
        parts: some of A's; all of them, if None, but for what A does not compute with and B does not store.
        vocabulary: "leave-out" leaves embedding and unembedding out where the vocabularies differ in size.

    Raises:
        PairError: a part of A has none in B, or one of another shape.
    """
    if vocabulary not in ("refuse", "leave-out"):
        raise PairError(f"vocabulary is 'refuse' or 'leave-out', not {vocabulary!r}")
    theirs = _Theirs(a, b)
    found = []
    for part in without_unused(a, a.parts, [b]) if parts is None else parts:
        for paired in theirs.of(part):
            if paired.a.shape == paired.b.shape and paired.a.out_axis == paired.b.out_axis:
                found.append(paired)
            elif not (vocabulary == "leave-out" and _OUTSIDE & set(part.roles)):
                raise PairError(_disagreement(a, b, paired))
    return tuple(found)


class _Theirs:
    """What another checkpoint has for parts of one."""

    def __init__(self, a: Checkpoint, b: Checkpoint) -> None:
        self._a, self._b = a, b
        self._by_key = {part.key: part for part in b.parts}

    def of(self, part: Part) -> Iterator[Paired]:
        """A part's counterpart; two, where A ties what B does not."""
        if part.key in self._by_key or part.bias or not _OUTSIDE & set(part.roles):
            theirs = self._by_key.get(replace(part, which=None).key)
            if theirs is None:
                raise PairError(self._missing(part))
            self._check_heads(part, theirs)
            yield Paired(part, theirs if part.which is None else theirs.head(part.which), part.roles)
            return
        for role in part.roles:
            yield Paired(part, self._outside(part, role), (role,))

    def _outside(self, part: Part, role: str) -> Part:
        """B's embedding or unembedding, where one of the checkpoints ties them and the other does not."""
        having = [each for each in self._b.parts if role in each.roles and not each.bias]
        # Positions have an embedding too, under a name of their own.
        named = [each for each in having if each.parameter == part.parameter]
        found = named or (having if role == "lm_head" else [])
        if not found:
            raise PairError(self._missing(part))
        return found[0]

    def _check_heads(self, part: Part, theirs: Part) -> None:
        if part.heads != theirs.heads:
            raise PairError(
                f"{part.parameter} has {part.heads} heads in {self._a.name} and {theirs.heads} in {self._b.name}: rows "
                "of one do not mean what rows of the other do; checkpoints of one architecture and size can be paired"
            )

    def _missing(self, part: Part) -> str:
        kinds = [type(each.config).__name__.removesuffix("Config") for each in (self._a, self._b)]
        others = f" ({self._a.name} is {kinds[0]}, {self._b.name} is {kinds[1]})" if kinds[0] != kinds[1] else ""
        return (
            f"{self._b.name} has nothing for {part.parameter} of {self._a.name}{others}: checkpoints of one "
            "architecture and size can be paired"
        )


def _disagreement(a: Checkpoint, b: Checkpoint, paired: Paired) -> str:
    mine, other = paired.a, paired.b
    told = f"{mine.parameter} is {list(mine.shape)} in {a.name} and {list(other.shape)} in {b.name}"
    if _OUTSIDE & set(mine.roles) and mine.shape[1:] == other.shape[1:]:
        return (
            f"{told}: their vocabularies differ in size; resize one (resize_token_embeddings) and save it, or leave "
            "embed and lm_head out with vocabulary='leave-out'"
        )
    if mine.out_axis != other.out_axis:
        told += ", one [in, out] and the other [out, in]"
    return f"{told}: checkpoints of one architecture and size can be paired"


def _of_modules(parts: Sequence[Part], wanted: Sequence[str], *, biases: bool, name: str) -> tuple[Part, ...]:
    if "all" in wanted:
        return tuple(parts)
    known = [each for each in wanted if each in ROLES or each in GROUPS]
    roles = {role for each in known for role in GROUPS.get(each, (each,))}
    there = {role for part in parts for role in part.roles}
    for each in known:
        # Of a group, the architecture need not have all: not every MLP has a gate.
        if not there & set(GROUPS.get(each, (each,))):
            has = ", ".join(role for role in ROLES if role in there)
            raise SelectionError(f"{name} has no {each}; it has {has}")
    patterns = [each for each in wanted if each not in known]
    for pattern in patterns:
        if not any(_named(part, pattern) for part in parts):
            raise SelectionError(
                f"{name} has no module {pattern!r}: give a role ({', '.join(ROLES)}), a group ({', '.join(GROUPS)}), "
                "'all', or the name of a module or parameter"
            )
    found = []
    for part in parts:
        if any(_named(part, pattern) for pattern in patterns):
            found.append(part)
        elif roles & set(part.roles) and (biases or not part.bias or not _MATRICES & set(part.roles)):
            _check_alone(part, roles, name)
            found.append(part)
    return tuple(found)


def _named(part: Part, pattern: str) -> bool:
    names = {part.parameter, part.tensor}
    return any(fnmatchcase(each, form) for each in names for form in (pattern, f"{pattern}.*"))


def _check_alone(part: Part, roles: set[str], name: str) -> None:
    if left := [role for role in part.roles if role not in roles]:
        why = "tied" if set(part.roles) <= _OUTSIDE else "fused in a layout that is not known for this architecture"
        raise SelectionError(
            f"{part.tensor} of {name} is {' and '.join(part.roles)} in one tensor, {why}: name "
            f"{' and '.join(left)} too, or none of them"
        )


def _in_layers(found: Sequence[Part], wanted: Sequence[str], layers: Sequence[int]) -> tuple[Part, ...]:
    outside = _OUTSIDE & set(wanted)
    return tuple(part for part in found if part.layer in layers or (part.layer is None and outside & set(part.roles)))


def _of_heads(
    parts: Sequence[Part], found: Sequence[Part], heads: Sequence[tuple[int, int]], name: str
) -> tuple[Part, ...]:
    wanted = _heads_by_layer(parts, heads, name)
    chosen = []
    for part in found:
        if not set(part.roles) <= _ATTENTION or not part.roles:
            raise SelectionError(
                f"{part.tensor} of {name} ({part.label}) has no heads: with heads, name attention projections only "
                f"({', '.join(GROUPS['attention'])})"
            )
        if part.layer in wanted and not (part.bias and "o_proj" in part.roles):
            if part.heads is None:
                raise SelectionError(f"{part.tensor} of {name} ({part.label}) does not divide into known heads")
            chosen.append(part)
    empty = [layer for layer in wanted if layer not in {part.layer for part in found}]
    if chosen and empty:
        raise SelectionError(
            f"heads of layer {empty[0]} are named, and no attention projection of that layer of {name} is chosen: "
            "choose it, or leave these heads out"
        )
    _check_one_count(chosen, name)
    return tuple(each for part in chosen for each in _heads_of(part, wanted[part.layer], name))


def _heads_by_layer(
    parts: Sequence[Part], heads: Sequence[tuple[int, int]], name: str
) -> dict[int | None, tuple[int, ...]]:
    count = _layers(parts)
    wanted: dict[int | None, dict[int, None]] = {}
    for each in heads:
        try:
            layer, head = (index(number) for number in each)
        except (TypeError, ValueError) as error:
            raise SelectionError(f"heads are pairs of layer and head, such as (3, 0), not {each!r}") from error
        (at,) = numbered(layer, count, name)
        wanted.setdefault(at, {})[head] = None
    if not wanted:
        raise SelectionError("no heads are named: leave heads out, to take all of them")
    return {layer: tuple(each) for layer, each in wanted.items()}


def _check_one_count(chosen: Sequence[Part], name: str) -> None:
    for layer in {part.layer for part in chosen}:
        counts = {part.heads: part for part in chosen if part.layer == layer}
        if len(counts) > 1:
            told = " and ".join(f"{part.heads} of {part.label}" for part in counts.values())
            raise SelectionError(
                f"layer {layer} of {name} has {told} (grouped queries): a head of q and o is not one of k and v; "
                "choose heads of q_proj and o_proj, or of k_proj and v_proj"
            )


def _heads_of(part: Part, heads: Sequence[int], name: str) -> Iterator[Part]:
    """The share of each head, once, however often it is named: 3 and -1 may be the same."""
    assert part.heads is not None
    for head in heads:
        if not -part.heads <= head < part.heads:
            raise SelectionError(
                f"head {head} does not exist: {part.label} of layer {part.layer} of {name} has heads 0 to "
                f"{part.heads - 1}"
            )
    for head in dict.fromkeys(head % part.heads for head in heads):
        yield part.head(head)


def _layers(parts: Sequence[Part]) -> int:
    return 1 + max((part.layer for part in parts if part.layer is not None), default=-1)
