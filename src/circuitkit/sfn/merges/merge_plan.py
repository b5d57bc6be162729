"""Which stored tensors a merge changes, and what goes into each; tied against untied embeddings among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from circuitkit.sfn.merges.grafting import Donation, Graft, MergeError, Share
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.computed import computed_with, without_unused
from circuitkit.sfn.streams.parts import Part
from circuitkit.sfn.streams.selection import Paired, Vocabulary, pair
from circuitkit.sfn.written.writing import Extra
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

_UNTIED = ("lm_head",)
_OUTSIDE = frozenset(("embed", "lm_head"))


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """A merge, before anything is read but headers.

    Attributes:
        into: what is merged into.
        edits: by stored name.
        extra: an unembedding, where donors bring one and the embedding is tied so far.
        left_out: parameters that are left as they are, since vocabularies differ in size.
        config_changes: by name.
    """

    into: Checkpoint
    edits: Mapping[str, Graft]
    extra: Mapping[str, Extra]
    left_out: tuple[str, ...]
    config_changes: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each stored tensor that is asked for."""
        import pandas as pd

        grafts = [*self.edits.items(), *((name, each.edit) for name, each in self.extra.items())]
        rows = [self._row(name, graft) for name, graft in grafts if isinstance(graft, Graft)]
        columns = ["tensor", "roles", "layer", "dtype", "shape", "elements", "chosen", "bytes"]
        return pd.DataFrame(rows, columns=None if rows else columns)

    @property
    def bytes_changed(self) -> int:
        """Of what is put in."""
        return int(self.frame["bytes"].sum())

    @property
    def bytes_written(self) -> int:
        """Of all weights of the merged checkpoint."""
        return self.into.nbytes + sum(self.into.tensors[each.like].nbytes for each in self.extra.values())

    def _row(self, name: str, graft: Graft) -> dict[str, Any]:
        stored = self.into.tensors[self.extra[name].like if name in self.extra else name]
        told = graft.told()
        return {
            "tensor": name,
            "roles": tuple(dict.fromkeys(role for part, _ in graft.pieces for role in part.roles)),
            "layer": graft.pieces[0][0].layer,
            "dtype": str(stored.dtype).removeprefix("torch."),
            "shape": tuple(stored.shape),
            "elements": math.prod(stored.shape),
            "chosen": told["chosen"],
            "bytes": told["chosen"] * stored.dtype.itemsize,
        } | ({"heads": told["heads"]} if "heads" in told else {})


def planned(
    into: Checkpoint,
    chosen: Sequence[Part],
    given: Sequence[tuple[Checkpoint, float]],
    base: Checkpoint | None,
    *,
    vocabulary: Vocabulary,
) -> Plan:
    """Pair what is chosen with what donors have.

    Args:
        into: what is merged into.
        chosen: parts of it.
        given: donors, with their weights.
        base: what they are compared with, if that is not `into`.
        vocabulary: as `circuitkit.sfn.pair` has it.

    Raises:
        PairError: a donor, or the base, has no such part, or one of another shape.
    """
    chosen = without_unused(into, chosen, [donor for donor, _ in given] + ([base] if base else []))
    theirs = [(weight, _Counterparts(into, donor, chosen, vocabulary)) for donor, weight in given]
    origin = None if base is None else _Counterparts(into, base, chosen, vocabulary)
    pieces: dict[str, list[tuple[Part, Sequence[Donation]]]] = {}
    extra: dict[str, Extra] = {}
    left_out: list[str] = []
    untied = False
    # A weight of zero brings nothing, no unembedding either.
    bringing = [each for weight, each in theirs if weight]
    for part in chosen:
        name = _unembedding(part, [*bringing, origin] if bringing and origin else bringing)
        first, second = (part.roles, part.roles) if name is None else (("embed",), _UNTIED)
        if not (donations := tuple(_donations(part, first, theirs, origin))):
            left_out.append(part.parameter)
            continue
        pieces.setdefault(part.tensor, []).append((replace(part, roles=first), donations))
        again = tuple(_donations(part, second, theirs, origin))
        for copy in part.copies:
            pieces.setdefault(copy, []).append((replace(part, tensor=copy, roles=second, copies=()), again))
        if name is not None:
            untied = True
            if not part.copies:
                own = replace(part, tensor=name, roles=_UNTIED)
                extra[name] = Extra(part.tensor, Graft(into.name, [(own, again)]), _UNTIED)
    edits = {tensor: Graft(into.name, each) for tensor, each in pieces.items()}
    return Plan(into, edits, extra, tuple(left_out), {"tie_word_embeddings": False} if untied else {})


class _Counterparts:
    """What a checkpoint has for chosen parts of another."""

    def __init__(
        self, into: Checkpoint, checkpoint: Checkpoint, chosen: Sequence[Part], vocabulary: Vocabulary
    ) -> None:
        self.checkpoint = checkpoint
        self._paired: dict[tuple[Any, ...], list[Paired]] = {}
        for each in pair(into, checkpoint, chosen, vocabulary=vocabulary):
            self._paired.setdefault(_key(each.a), []).append(each)

    def share(self, part: Part, roles: Iterable[str]) -> Share | None:
        """What it has for a part in some roles; None where that is left out."""
        for each in self._paired.get(_key(part), ()):
            if not each.roles or set(roles) & set(each.roles):
                return Share(self.checkpoint, each.b)
        return None

    def untied(self, part: Part) -> str | None:
        """Its unembedding, where a part is tied and it has one of its own."""
        for each in self._paired.get(_key(part), ()):
            if each.roles == _UNTIED != part.roles:
                return each.b.parameter
        return None


def check_all_there(into: Checkpoint, chosen: Sequence[Part], donor: Checkpoint) -> None:
    """Refuse a donor that has more in the chosen modules than there is room for: biases, mostly.

    Raises:
        MergeError: it has; the first is named.
    """
    mine = {part.parameter for part in into.parts}
    modules = {_module(part.parameter) for part in chosen}
    known = computed_with(donor)
    for part in donor.parts:
        # Tied embeddings have another name than their own in one of the two.
        if part.parameter in mine or _OUTSIDE & set(part.roles) or part.parameter not in known:
            continue
        if _module(part.parameter) in modules:
            raise MergeError(
                f"{donor.name} has {part.parameter}, for which {into.name} has no place: its config computes without; "
                f"merge the other way round, or leave biases out"
            )


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _key(part: Part) -> tuple[Any, ...]:
    return part.tensor, *part.key


def _unembedding(part: Part, theirs: Sequence[_Counterparts]) -> str | None:
    """The name of an unembedding that is no longer tied; None where it stays as it is."""
    return next((name for each in theirs if (name := each.untied(part)) is not None), None)


def _donations(
    part: Part, roles: Iterable[str], theirs: Sequence[tuple[float, _Counterparts]], origin: _Counterparts | None
) -> Iterator[Donation]:
    base = None if origin is None else origin.share(part, roles)
    for weight, each in theirs:
        share = each.share(part, roles)
        # Where the base's vocabulary is of another size, nothing can be told from it.
        if share is not None and (origin is None or base is not None):
            yield Donation(weight, share, base)
