"""Destruction: modules, heads or whole layers of a checkpoint replaced by nothing, by chance, or by their own ruins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from circuitkit.model.roles import ROLES
from circuitkit.sfn.destructions.fillings import AsBuilt, Filling, Noise, Permuted, Reinitialised, Zero
from circuitkit.sfn.destructions.initialisation import laws
from circuitkit.sfn.destructions.passing import removal
from circuitkit.sfn.destructions.ruins import Ruin
from circuitkit.sfn.errors import SelectionError, SfnError
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part
from circuitkit.sfn.streams.selection import numbered, select
from circuitkit.sfn.written.manifest import Manifest
from circuitkit.sfn.written.writing import check_place, write
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.model import Model

How = Literal["zero", "reinit", "init", "permute", "noise", "remove"]
SIGMA = 0.02
"""The paper's standard deviation of re-initialised weights."""


class DestructionError(SfnError):
    """A destruction that does not exist, or of which something is asked that it does not have."""


@dataclass(frozen=True)
class Destroyed(Shown):
    """A destroyed checkpoint, or, of a dry run, what would be destroyed.

    Attributes:
        folder: where it was written; None of a dry run.
        manifest: hashes and norms of every tensor that was changed, before and after; None of a dry run.
        parts: what was destroyed, part by part.
        plan: a row for each of these: tensor, module, layer, expert, head, shape, and how.
        summary: what is destroyed, in a line.
        bytes_changed: of weights, that are destroyed.
        bytes_written: of all weights of the folder.
    """

    folder: Path | None
    manifest: Manifest | None
    parts: tuple[Part, ...]
    plan: pd.DataFrame
    summary: str
    bytes_changed: int
    bytes_written: int

    def _title(self) -> str:
        return "Destroyed" if self.folder is None else f"Destroyed: {self.folder.name}"

    def _says(self) -> list[str]:
        return [f"{self.summary}.", f"{self.bytes_changed:,} of {self.bytes_written:,} bytes of weights are destroyed."]

    def __repr__(self) -> str:
        where = "nothing is written (dry run)" if self.folder is None else f"written to {self.folder}"
        return f"Destroyed({self.summary}; {where})"

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each tensor that was changed, as the manifest has it; of a dry run, the plan."""
        return self.plan if self.manifest is None else self.manifest.frame


def destroy(
    a: str | Path | Checkpoint | Model,
    modules: str | Sequence[str] = (),
    layers: int | Iterable[int] | None = None,
    how: How = "zero",
    out: str | Path | None = None,
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    sigma: float = SIGMA,
    biases: bool = True,
    seed: int = 0,
    dry_run: bool = False,
    progress: bool = True,
) -> Destroyed:
    """Write a checkpoint whose modules, heads or layers are destroyed, and a manifest of what became of them.

    What to read into a result, which follows from the arithmetic of a layer and not from what the module had learnt:

    - `q_proj` or `k_proj` zero: all scores are equal, so that each token attends alike to every token that the mask
      lets it see (with ALiBi, sinks or score biases, as these say). Attention is not gone; it is an average.
    - `v_proj` or `o_proj` zero: attention adds nothing to the stream (but the bias of `o_proj`, where `biases=False`
      spares it). Without biases these two are the same model. So the paper's q and k, at level I, against v and o, at
      level III, set an average that is added against nothing that is added.
    - `gate_proj`, `up_proj` or `down_proj` zero: the MLP adds nothing, and the three are the same model, where the
      activation of 0 is 0 (SiLU, GELU) and there are no biases.

    Draws are numpy's, seeded by `seed`, the parameter's name, and the expert's and head's number: neither shards nor
    blocks nor the dtype change them, and each number is rounded once. A tied tensor is destroyed once, as both.

    Args:
        a: a folder, hub id or embedded name, or what `ck.sfn.Checkpoint.open` makes of one and a revision.
        modules: roles, groups (`attention`, `mlp`), "all", or names of modules or parameters, `*` for any text; none
            with how="remove", which takes layers as a whole.
        layers: from 0, negative ones from the end; all if None. The paper's are `range(5, 30)` of 64.
        how: "zero", zeros; "reinit", N(0, sigma), norms and biases too where they are chosen; "init", what the
            architecture's own code fills the module with before training (GPT-2's `c_proj` smaller than the rest, norms
            of ones, biases of zeros); "permute", each output's incoming weights in a random order of their own, which
            keeps the norm, mean and histogram of each output (of a head of `o_proj`, of what comes from that head; a
            bias is shuffled as a whole); "noise", Gaussian numbers of exactly the part's Frobenius norm, of each head
            its own where heads are named; "remove", by which the layers pass their input through, exactly, since what
            their branches multiply by last is zero.
        out: the folder to write, which must not exist; may be left out of a dry run.
        heads: pairs (layer, head) of attention projections: outputs of q, k and v, inputs of o (whose bias, which is no
            head's, stays).
        sigma: standard deviation of "reinit".
        biases: destroy the biases of modules too, as the paper does.
        seed: of all that is drawn.
        dry_run: write nothing; tell what would change.
        progress: show a bar, in bytes.

    Raises:
        DestructionError: an unknown way, a setting that the way does not have, or no place to write to.
        SelectionError: a module, layer or head is not there or not to be had alone, or nothing is chosen.
        FillingError: a sigma or seed that is none, quantised weights, or numbers beyond a dtype.
        InitialisationError: the architecture's own initialisation cannot be told from its code.
        PassingError: a layer that zeros do not make pass its input through (norms on the stream, other mixers).
        CheckpointError: a weight is NaN or infinite, or the checkpoint is not whole.
        WritingError: the place is taken, or the disk is full. Nothing is left then.

    Source: Destruction of Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993).

    >>> destroy("deductor-130k", ["o_proj"], layers=[1], how="noise", dry_run=True)
    Destroyed(o_proj of deductor-130k, layer 1, noise: 4,096 numbers in 1 tensor; nothing is written (dry run))
    """
    checkpoint = Checkpoint.open(a)
    if out is None and not dry_run:
        raise DestructionError("name the folder to write: out=…; or only look at what would change: dry_run=True")
    parts = chosen(checkpoint, modules, layers, how, heads=heads, biases=biases)
    planned = edits(checkpoint, parts, how, sigma=sigma, seed=seed)
    place = None if out is None else check_place(out, [checkpoint])
    plan, summary = _plan(checkpoint, parts, how), _summary(checkpoint, parts, how)
    sizes = _bytes_changed(checkpoint, parts), checkpoint.nbytes
    if dry_run or place is None:
        return Destroyed(None, None, parts, plan, summary, *sizes)
    told = {
        "kind": "destroy",
        "how": how,
        "modules": [modules] if isinstance(modules, str) else list(modules),
        "layers": sorted({part.layer for part in parts if part.layer is not None}),
        "heads": None if heads is None else [[int(number) for number in each] for each in heads],
        "sigma": float(sigma) if how == "reinit" else None,
        "biases": biases,
        "seed": int(seed),
    }
    manifest = write(checkpoint, planned, place, told=told, progress=progress)
    return Destroyed(place, manifest, parts, plan, summary, *sizes)


def chosen(
    a: Checkpoint,
    modules: str | Sequence[str],
    layers: int | Iterable[int] | None,
    how: How,
    *,
    heads: Sequence[tuple[int, int]] | None = None,
    biases: bool = True,
) -> tuple[Part, ...]:
    """The parts that a destruction is of.

    Raises:
        DestructionError, SelectionError, PassingError: see `destroy`.
    """
    if how not in get_args(How):
        raise DestructionError(f"how is {', '.join(get_args(How)[:-1])} or {get_args(How)[-1]}, not {how!r}")
    if how != "remove":
        if not modules:
            raise DestructionError(f"name what of {a.name} is to be destroyed: modules=[…], such as ['o_proj']")
        return _parameters(a, select(a.parts, modules, layers, heads, biases=biases, name=a.name))
    within = numbered(() if layers is None else layers, a.skeleton.n_layers, a.name)
    if modules or heads is not None or not biases or not within:
        raise DestructionError(
            "how='remove' takes whole layers, with the biases of what they add: give layers=[…], and neither modules "
            "nor heads nor biases=False"
        )
    taken = {name for names in removal(a.skeleton, within).values() for name in names}
    return tuple(part for part in a.parts if part.parameter in taken)


def edits(a: Checkpoint, parts: Sequence[Part], how: How, *, sigma: float = SIGMA, seed: int = 0) -> dict[str, Ruin]:
    """What becomes of each stored tensor of which some parts are destroyed; nothing outside of the parts changes.

    Args:
        a: a folder's checkpoint, or that of a model in memory.
        parts: of it: see `chosen`.
        how, sigma, seed: see `destroy`.

    Raises:
        DestructionError, FillingError: see `destroy`.
    """
    if sigma != SIGMA and how != "reinit":
        raise DestructionError(f"sigma is of how='reinit'; how={how!r} has none")
    filling = _filling(a, how, sigma, seed)
    of_tensor: dict[str, list[Part]] = {}
    for part in parts:
        for tensor in (part.tensor, *part.copies):
            of_tensor.setdefault(tensor, []).append(part)
    saying: dict[str, Any] = {"how": how}
    saying |= {} if how in ("zero", "remove") else {"seed": int(seed)}
    saying |= {"sigma": float(sigma)} if how == "reinit" else {}
    return {tensor: Ruin(a, tensor, of_it, filling, saying) for tensor, of_it in of_tensor.items()}


def _parameters(a: Checkpoint, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Those parts that are weights, and not the masks and tables that some checkpoints store too.

    Raises:
        SelectionError: none is.
    """
    buffers = {name for name, _ in a.skeleton.anatomy.root.named_buffers()}
    found = tuple(part for part in parts if part.parameter not in buffers)
    if not found:
        raise SelectionError(f"{parts[0].tensor} of {a.name} is no weight: masks and tables are not destroyed")
    return found


def _bytes_changed(a: Checkpoint, parts: Sequence[Part]) -> int:
    """Of the parts, and of the copies that are stored of them."""
    return sum(part.numel * a.tensors[name].dtype.itemsize for part in parts for name in (part.tensor, *part.copies))


def _summary(a: Checkpoint, parts: Sequence[Part], how: How) -> str:
    roles = {role for part in parts for role in part.roles}
    modules = ", ".join([role for role in ROLES if role in roles] + ["others"] * any(not part.roles for part in parts))
    heads = len({(part.layer, part.which) for part in parts if part.which is not None})
    layers = sorted({part.layer for part in parts if part.layer is not None})
    tensors = {tensor for part in parts for tensor in (part.tensor, *part.copies)}
    told = [modules] if not heads else [f"{heads} {'head' if heads == 1 else 'heads'} of {modules}"]
    told[0] += f" of {a.name}"
    told += [f"{'layer' if len(layers) == 1 else 'layers'} {_stretches(layers)}"] if layers else []
    count = f"{sum(part.numel for part in parts):,} numbers in {len(tensors)} tensor{'s' * (len(tensors) != 1)}"
    return f"{', '.join([*told, how])}: {count}"


def _stretches(numbers: Sequence[int]) -> str:
    """Numbers in order, those that follow one another as a stretch.

    >>> _stretches([0, 1, 2, 5])
    '0 to 2, 5'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{each[0]} to {each[-1]}" if len(each) > 1 else str(each[0]) for each in found)


def _filling(a: Checkpoint, how: How, sigma: float, seed: int) -> Filling:
    # The seed is looked at, whether or not it is used: one that is none is a mistake.
    drawn = Reinitialised(sigma, seed)
    if how == "init":
        root: Any = a.skeleton.anatomy.root
        return AsBuilt(laws(type(root), root.config), seed)
    ways: Mapping[str, Filling] = {"reinit": drawn, "permute": Permuted(seed), "noise": Noise(seed)}
    return ways.get(how, Zero())


def _plan(a: Checkpoint, parts: Sequence[Part], how: How) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "tensor": part.tensor,
            "module": part.label,
            "layer": part.layer,
            "expert": part.expert,
            "head": part.which,
            "bias": part.bias,
            "shape": part.shape,
            "elements": part.numel,
            "dtype": str(a.tensors[part.tensor].dtype).removeprefix("torch."),
            "how": how,
        }
        for part in parts
    ]
    return pd.DataFrame(rows).astype({"layer": "Int64", "expert": "Int64", "head": "Int64"})
