"""Grafting and destruction in a model in memory, for as long as a context lasts: what is written, and no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from circuitkit.model import Model
from circuitkit.sfn.destructions import destruction
from circuitkit.sfn.destructions.destruction import SIGMA, How
from circuitkit.sfn.destructions.passing import check_adapters
from circuitkit.sfn.live.homes import LiveError
from circuitkit.sfn.live.in_place import replaced
from circuitkit.sfn.merges import merging
from circuitkit.sfn.merges.merge_plan import Plan
from circuitkit.sfn.merges.merging import Donor, Source
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part
from circuitkit.sfn.streams.selection import Vocabulary
from circuitkit.sfn.written.writing import Edit


@contextmanager
def grafted(
    model: Model | Any,
    b: Source | None = None,
    modules: str | Iterable[str] = (),
    *,
    layers: int | Iterable[int] | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    alpha: float = 1.0,
    biases: bool = False,
    donors: Sequence[Donor | tuple[Source, float]] | None = None,
    base: Source | None = None,
    vocabulary: Vocabulary = "refuse",
    progress: bool = True,
) -> Iterator[Model]:
    """Graft modules of B into a model in memory while the context lasts; at the end it is its own again, bit for bit.

    The model holds what the folder that `ck.sfn.merge` writes holds. Only what is replaced is kept beside it, and of a
    B on disk only that is read. Numbers are written in place, so that tied weights stay tied, and whatever else holds
    the same tensors sees them; they are moved to where A's are, and cast to A's dtype. Contexts nest, and end in any
    order. What is written into the grafted parts meanwhile (by a training, or by another thread) is lost at the end,
    where A's own numbers come back; what is written into other parts stays.

    Args:
        model: A: a `ck.Model`, or a Hugging Face causal LM or PEFT model, which is wrapped. An adapter stays on it.
        b: where modules are taken from: a `ck.Model`, an embedded name, a folder or a hub id.
        modules, layers, heads, alpha, biases, donors, base, vocabulary: as of `ck.sfn.merge`.
        progress: show a bar, where it takes more than a second.

    Raises:
        SfnError: see `ck.sfn.merge`.
        LiveError: a weight of A is quantised or divided among processes, has an adapter merged into it or a copy of the
            adapter's in its place, is tied where B's is not, or was replaced by another tensor before the end.

    Source: Merge of Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993).

    >>> with grafted(ck.load("deductor-130k-base"), "deductor-130k-reason", ["o_proj"]) as model:
    ...     answer = model.generate("Every wumpus is a dumpus.", max_new_tokens=4, do_sample=False)
    """
    model = model if isinstance(model, Model) else Model(model)
    asked = merging.asked_for(
        model, b, modules, layers=layers, heads=heads, alpha=alpha, biases=biases, donors=donors, base=base,
        vocabulary=vocabulary,
    )  # fmt: skip
    edits = asked.plan.edits
    _check_tied(asked.plan)
    parts = [part for graft in edits.values() for part, _ in graft.pieces]
    with _edited(model, asked.plan.into, parts, edits, "grafting into", progress):
        yield model


@contextmanager
def destroyed(
    model: Model | Any,
    modules: str | Sequence[str] = (),
    layers: int | Iterable[int] | None = None,
    how: How = "zero",
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    sigma: float = SIGMA,
    biases: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Iterator[Model]:
    """Destroy modules, heads or layers of a model in memory while the context lasts; at the end they are whole again.

    The model holds what the folder that `ck.sfn.destroy` writes holds, draws included. What is kept, what nests, and
    what is lost at the end is as of `grafted`.

    Args:
        model: a `ck.Model`, or a Hugging Face causal LM or PEFT model, which is wrapped. An adapter stays on it.
        modules, layers, how, heads, sigma, biases, seed: as of `ck.sfn.destroy`.
        progress: show a bar, where it takes more than a second.

    Raises:
        SfnError: see `ck.sfn.destroy`; to remove a layer of which an adapter holds the last weights is refused too.
        LiveError: see `grafted`.

    Source: Destruction of Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993).

    >>> with destroyed(ck.load("deductor-130k"), layers=[1], how="remove") as model:
    ...     run = model.run("Every wumpus is a dumpus.", capture=["resid_pre[layer=1]", "resid_post[layer=1]"])
    >>> torch.equal(*run.cache.values())
    True
    """
    model = model if isinstance(model, Model) else Model(model)
    whole = Checkpoint.open(model)
    parts = destruction.chosen(whole, modules, layers, how, heads=heads, biases=biases)
    edits = destruction.edits(whole, parts, how, sigma=sigma, seed=seed)
    if how == "remove":
        check_adapters(model, [part.parameter for part in parts])
    with _edited(model, whole, parts, edits, "destroying", progress):
        yield model


@contextmanager
def _edited(
    model: Model, whole: Checkpoint, parts: Sequence[Part], edits: Mapping[str, Edit], doing: str, progress: bool
) -> Iterator[None]:
    total = sum(whole.tensors[name].nbytes for name in {part.tensor for part in parts})
    with ExitStack() as stack:
        with bytes_bar(total, f"{doing} {model.name}", progress) as bar:
            stack.enter_context(replaced(model, parts, _whole(edits, bar.update)))
        yield


def _whole(edits: Mapping[str, Edit], done: Callable[[int], object]) -> Callable[[str, Tensor], Tensor]:
    """What edits of checkpoints, which take some rows of a tensor at a time, make of all of it."""

    def new(name: str, old: Tensor) -> Tensor:
        table = old.reshape(-1, old.shape[-1]) if old.ndim > 1 else old.reshape(-1)
        found = edits[name].rows(slice(0, len(table)), table).reshape(old.shape)
        done(old.nbytes)
        return found

    return new


def _check_tied(plan: Plan) -> None:
    """Refuse to give one tensor two contents: an embedding, and an unembedding that is no more the same."""
    for name, extra in plan.extra.items():
        old = plan.into.read(extra.like)
        every = slice(0, len(old))
        if not torch.equal(plan.edits[extra.like].rows(every, old.cpu()), extra.edit.rows(every, old.cpu())):
            raise LiveError(
                f"{extra.like} of {plan.into.name} is embedding and unembedding in one, and {name} is to differ from "
                "it: untie the model before it is loaded, write a folder (ck.sfn.merge), or leave embed and lm_head out"
            )
