"""Grafting and destruction in a model in memory, for as long as a context lasts: what is written, and no file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from circuitkit.model import Model
from circuitkit.sfn import destruction, in_place
from circuitkit.sfn.checkpoint import Checkpoint
from circuitkit.sfn.destruction import SIGMA, How
from circuitkit.sfn.grafting import Donation, Graft, Share
from circuitkit.sfn.parts import Part
from circuitkit.sfn.selection import Vocabulary, pair, select
from circuitkit.sfn.writing import Edit

Source = str | Path | Checkpoint | Model


@contextmanager
def grafted(
    model: Model | Any,
    b: Source,
    modules: str | Sequence[str],
    *,
    layers: int | Sequence[int] | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
    alpha: float = 1.0,
    biases: bool = False,
    vocabulary: Vocabulary = "refuse",
) -> Iterator[Model]:
    """Graft modules of B into a model in memory while the context lasts; at the end it is its own again, bit for bit.

    The model computes what the folder that `ck.sfn.merge` writes computes. Only what is replaced is kept beside it, and
    of a B on disk only that is read. Weights are written in place, so that tied ones stay tied and whatever else holds
    the same tensors sees them; they are moved to where A's are, and cast to A's dtype. Contexts nest, and may end in
    any order. What is written into the grafted parts meanwhile (by a training, or by another thread) is lost at the
    end, where A's own numbers come back; what is written into other parts stays.

    Args:
        model: A: a `ck.Model`, or a Hugging Face causal LM or PEFT model, which is wrapped. An adapter stays on it.
        b: where modules are taken from: a `ck.Model`, an embedded name, a folder or a hub id.
        modules: roles (`o_proj`), groups (`mlp`), "all", or names of modules or parameters, `*` standing for any text.
        layers: only modules of these layers, negative ones from the end; all if None.
        heads: pairs of layer and head, of attention's projections; all of each module if None.
        alpha: share of B: A + alpha · (B − A), computed in float64 and rounded once; 1 is B's numbers themselves.
        biases: with the modules' biases.
        vocabulary: "leave-out" leaves embedding and unembedding A's where vocabularies differ in size.

    Raises:
        SelectionError: there are no such modules, layers or heads, or they are not to be had alone.
        SfnError: the models do not fit one another, or a number is NaN, infinite, or beyond what A's dtype holds.
        LiveError: a weight of A is quantised or divided among processes, has an adapter merged into it, or was replaced
            by another tensor before the end.

    Source: Merge of Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993).

    >>> with grafted(ck.load("deductor-130k-base"), "deductor-130k-reason", ["o_proj"]) as model:
    ...     answer = model.generate("Every wumpus is a dumpus.", max_new_tokens=4, do_sample=False)
    """
    model = model if isinstance(model, Model) else Model(model)
    into, donor = Checkpoint.open(model), Checkpoint.open(b)
    parts = select(into.parts, modules, layers, heads, biases=biases, name=into.name)
    given: dict[str, list[tuple[Part, list[Donation]]]] = {}
    for each in pair(into, donor, parts, vocabulary=vocabulary):
        given.setdefault(each.a.tensor, []).append((each.a, [Donation(alpha, Share(donor, each.b))]))
    with _edited(model, parts, {tensor: Graft(into.name, pieces) for tensor, pieces in given.items()}):
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
) -> Iterator[Model]:
    """Destroy modules, heads or layers of a model in memory while the context lasts; at the end they are whole again.

    The model computes what the folder that `ck.sfn.destroy` writes computes, draws included. What is kept, what nests,
    and what is lost at the end is as of `grafted`.

    Args:
        model: a `ck.Model`, or a Hugging Face causal LM or PEFT model, which is wrapped.
        modules, layers, how, heads, sigma, biases, seed: as of `ck.sfn.destroy`.

    Raises:
        SfnError: see `ck.sfn.destroy`.
        LiveError: see `grafted`.

    Source: Destruction of Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993).

    >>> with destroyed(ck.load("deductor-130k"), layers=[1], how="remove") as model:
    ...     run = model.run("Every wumpus is a dumpus.", capture=["resid_pre[layer=1]", "resid_post[layer=1]"])
    >>> torch.equal(*run.cache.values())
    True
    """
    model = model if isinstance(model, Model) else Model(model)
    into = Checkpoint.open(model)
    parts = destruction.chosen(into, modules, layers, how, heads=heads, biases=biases)
    with _edited(model, parts, destruction.edits(into, parts, how, sigma=sigma, seed=seed)):
        yield model


@contextmanager
def _edited(model: Model, parts: Sequence[Part], edits: Mapping[str, Edit]) -> Iterator[None]:
    """Hold what edits of checkpoints make of some parts in a model."""

    def new(name: str, old: Tensor) -> Tensor:
        # Edits take a tensor as a table, whose rows are all axes but the last.
        table = old.reshape(-1, old.shape[-1]) if old.ndim > 1 else old.reshape(-1)
        return edits[name].rows(slice(0, len(table)), table).reshape(old.shape)

    with in_place.replaced(model, [part for part in parts if part.tensor in edits], new):
        yield
