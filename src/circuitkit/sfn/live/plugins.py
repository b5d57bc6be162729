"""A trained set of modules as a small file of its own, which is put into the model that it was trained from.

One safetensors file: the trained weights, and of each the sha256 of what it takes the place of, by which any other base
is told apart, and of its own bytes, by which damage is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from circuitkit.model import Model
from circuitkit.records import provenance
from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.live import in_place
from circuitkit.sfn.live.plugin_file import FORMAT, KINDS, PluginError, check_file, plain, sha256, told, write
from circuitkit.sfn.merges.blending import rounded
from circuitkit.sfn.merges.grafting import Share
from circuitkit.sfn.merges.merging import Asking, Source, asked_for
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.blocks import check_finite
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part
from circuitkit.sfn.streams.selection import select

if TYPE_CHECKING:
    import pandas as pd

Heads = Sequence[tuple[int, int]]


def save_plugin(
    trained: Source,
    out: str | Path,
    modules: str | Sequence[str],
    *,
    base: Source,
    layers: int | Sequence[int] | None = None,
    heads: Heads | None = None,
    biases: bool = False,
    progress: bool = True,
) -> Path:
    """Write modules of a trained model to one small file, which `attached` and `ck.load(…, plugin=)` put into a base.

    Args:
        trained: the model that they are taken from: an embedded name, a folder, a hub id, or a `ck.Model` in memory.
        out: the file, `….safetensors`.
        modules: roles, groups or names, as of `ck.sfn.merge`.
        base: the model that they were trained from, and are to be put into.
        layers: only modules of these layers, negative ones from the end; all if None.
        heads: pairs of layer and head, of attention's projections; all of each module if None.
        biases: with the modules' biases.
        progress: show a bar.

    Raises:
        SelectionError: there are no such modules, layers or heads, or they are not to be had alone.
        PluginError: the file is there already or cannot be written, or the two models are the same in all of it.
        SfnError: the models do not fit one another, or a weight is NaN or infinite.

    Source: the conjecture of Shao & Wu 2025 (arXiv 2505.20993) that `o_proj` carries reasoning like a plug-in.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save_plugin("deductor-130k", Path(folder) / "o.safetensors", ["o_proj"], base="deductor-130k-base")
    ...     ck.load("deductor-130k-base", plugin=file).name
    'deductor-130k-base with o.safetensors'
    """
    out = check_file(out)
    asked = _Asked.of(modules, layers, heads, biases)
    asking = asked.asking(trained, base)
    of_base, ((of_trained, _),) = asking.into, asking.given
    pairs = _pairs(asking)
    with bytes_bar(sum(each.nbytes for each in pairs), f"saving {out.name}", progress) as bar:
        described = [each.described(bar) for each in pairs]
        if all(each["sha256"] == each["replaces"].get(each["dtype"]) for each in described):
            raise PluginError(
                f"{of_trained.name} and {of_base.name} are the same in {', '.join(asked.modules) or 'nothing'}: there "
                "is nothing to save, so name what was trained"
            )
        said = {
            "format": FORMAT,
            "architecture": of_base.config.model_type,
            **asked.told(),
            "base": {"name": of_base.name, "revision": of_base.revision},
            "trained": {"name": of_trained.name, "revision": of_trained.revision},
            "settings": [asdict(each) for found in asking.differing.values() for each in found if each.computed],
            "parts": described,
            "provenance": provenance(model_name=of_trained.name, revision=of_trained.revision),
        }
        write(out, said, (each.value() for each in pairs), bar)
    return out


def planned(
    trained: Source,
    out: str | Path,
    modules: str | Sequence[str],
    *,
    base: Source,
    layers: int | Sequence[int] | None = None,
    heads: Heads | None = None,
    biases: bool = False,
) -> pd.DataFrame:
    """What `save_plugin` would write, a row a tensor: `tensor`, `dtype`, `shape`, `elements`, `bytes`; reads headers.

    Raises:
        SelectionError, PluginError, SfnError: see `save_plugin`.

    >>> plan = planned("deductor-130k", "not/there.safetensors", ["o_proj"], base="deductor-130k-base")
    >>> len(plan), int(plan["bytes"].sum())
    (3, 49152)
    """
    import pandas as pd

    check_file(out)
    pairs = _pairs(_Asked.of(modules, layers, heads, biases).asking(trained, base))
    return pd.DataFrame([each.planned() for each in pairs], columns=["tensor", "dtype", "shape", "elements", "bytes"])


@contextmanager
def attached(
    model: Model | Any, plugin: str | Path, *, any_base: bool = False, progress: bool = True
) -> Iterator[Model]:
    """Put a plug-in into a model while the context lasts; at the end its weights are its own again, bit for bit.

    Args:
        model: a `ck.Model`, or a Hugging Face causal LM or PEFT model, which is wrapped.
        plugin: a file that `save_plugin` wrote.
        any_base: also where the model's weights are not those that the plug-in was made for.
        progress: show a bar, where it takes more than two seconds.

    Raises:
        PluginError: the file is damaged or of another format or architecture, does not fit, or was made for other
            weights; the first tensor that differs is named.
        LiveError: see `ck.sfn.grafted`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save_plugin("deductor-130k", Path(folder) / "o.safetensors", ["o_proj"], base="deductor-130k-base")
    ...     with attached(ck.load("deductor-130k-base"), file) as model:
    ...         run = model.run("Every wumpus is a dumpus.", logits_at=-1)
    """
    model = model if isinstance(model, Model) else Model(model)
    with ExitStack() as stack:
        with _values(model, Path(plugin), any_base, progress) as (parts, new):
            stack.enter_context(in_place.replaced(model, parts, new))
        yield model


def attach(model: Model, plugin: str | Path, *, any_base: bool = False, progress: bool = True) -> None:
    """Put a plug-in into a model for good, as `ck.load(…, plugin=)` does, and let its name say so.

    Raises:
        PluginError, LiveError: see `attached`; the model is as it was.
    """
    plugin = Path(plugin)
    with _values(model, plugin, any_base, progress) as (parts, new):
        in_place.replace(model, parts, new)
    model.name = f"{model.name} with {plugin.name}"


@dataclass(frozen=True)
class _Asked:
    """Which modules a plug-in is of, as they were asked for."""

    modules: tuple[str, ...]
    layers: tuple[int, ...] | None
    heads: tuple[tuple[int, int], ...] | None
    biases: bool

    @classmethod
    def of(cls, modules: str | Sequence[str], layers: Any, heads: Any, biases: bool) -> _Asked:
        return cls(
            (modules,) if isinstance(modules, str) else tuple(modules),
            None if layers is None else tuple(layers) if isinstance(layers, Iterable) else (layers,),
            None if heads is None else tuple((layer, head) for layer, head in heads),
            biases,
        )

    def asking(self, trained: Source, base: Source) -> Asking:
        """The merge that puts these of a trained model into its base."""
        return asked_for(
            base, trained, self.modules, layers=self.layers, heads=self.heads, alpha=1.0, biases=self.biases,
            donors=None, base=None, vocabulary="refuse",
        )  # fmt: skip

    def parts(self, parts: Sequence[Part], name: str) -> tuple[Part, ...]:
        return select(parts, self.modules, self.layers, self.heads, biases=self.biases, name=name)

    def told(self) -> dict[str, Any]:
        # NumPy's numbers are none of JSON's.
        layers = None if self.layers is None else [int(each) for each in self.layers]
        heads = None if self.heads is None else [(int(layer), int(head)) for layer, head in self.heads]
        return {"modules": self.modules, "layers": layers, "heads": heads, "biases": self.biases}


def _name(part: Part) -> str:
    """What a part goes by in a plug-in, however a checkpoint or a model in memory keeps it: fused, cut up, or alone."""
    told = [] if set(part.roles) <= set(part.parameter.split(".")) else [part.label]
    told += [] if part.expert is None else [f"expert {part.expert}"]
    told += [] if part.which is None else [f"head {part.which}"]
    return f"{part.parameter} ({', '.join(told)})" if told else part.parameter


@dataclass(frozen=True)
class _Pair:
    """A part of the base, and the trained one that takes its place."""

    base: Share
    trained: Share

    @property
    def nbytes(self) -> int:
        """Bytes that are read and written of the two."""
        old = self.base.checkpoint.tensors[self.base.part.tensor].dtype.itemsize
        return self.base.part.numel * (old + 2 * self.itemsize)

    @property
    def itemsize(self) -> int:
        """Bytes of a trained number."""
        return self.trained.checkpoint.tensors[self.trained.part.tensor].dtype.itemsize

    def planned(self) -> dict[str, Any]:
        """A row of what would be saved."""
        part, stored = self.base.part, self.trained.checkpoint.tensors[self.trained.part.tensor]
        return {
            "tensor": _name(part),
            "dtype": plain(stored.dtype),
            "shape": tuple(part.shape),
            "elements": part.numel,
            "bytes": part.numel * self.itemsize,
        }

    def value(self) -> Tensor:
        """The trained numbers."""
        return _read(self.trained)

    def described(self, bar: Any) -> dict[str, Any]:
        """What the file says of it."""
        part, old, new = self.base.part, _read(self.base), self.value()
        for share, tensor in ((self.base, old), (self.trained, new)):
            if tensor.dtype not in KINDS:
                raise PluginError(f"{share} is of {plain(tensor.dtype)}: a plug-in is of unquantised weights")
            check_finite(str(share), tensor)
            bar.update(tensor.nbytes)
        return {
            "name": _name(part),
            "parameter": part.parameter,
            "roles": part.roles,
            "layer": part.layer,
            "shape": tuple(new.shape),
            "dtype": plain(new.dtype),
            # Of what the base may be loaded as, too.
            "replaces": {plain(dtype): sha256(old.to(dtype)) for dtype in KINDS},
            "sha256": sha256(new),
        }


def _read(share: Share) -> Tensor:
    return share.part.take(share.checkpoint.read(share.part.tensor)).cpu()


def _pairs(asking: Asking) -> list[_Pair]:
    """What is saved, in the order in which it is stored: by falling width, so that every tensor is aligned."""
    if asking.plan.extra:
        raise PluginError(
            f"{next(iter(asking.plan.extra))} is tied to the embedding in {asking.into.name}, and not in "
            f"{asking.given[0][0].name}: one tensor cannot hold both, so leave embed and lm_head out"
        )
    found: dict[str, _Pair] = {}
    for graft in asking.plan.edits.values():
        for part, (donation, *_) in graft.pieces:
            found.setdefault(_name(part), _Pair(Share(asking.into, part), donation.share))
    return sorted(found.values(), key=lambda each: -each.itemsize)


@contextmanager
def _values(model: Model, plugin: Path, any_base: bool, progress: bool) -> Iterator[tuple[list[Part], Any]]:
    """A model's parts that a plug-in is for, and what makes their tensors new."""
    said = told(plugin)
    root: Any = model.anatomy.root
    if said["architecture"] != root.config.model_type:
        raise PluginError(
            f"{plugin} is for the architecture {said['architecture']}, and {model.name} is a {root.config.model_type}"
        )
    asked = _Asked.of(said["modules"], said["layers"], said["heads"], said["biases"])
    try:
        parts = asked.parts(Checkpoint.open(model).parts, model.name)
    except SfnError as error:
        raise PluginError(f"{plugin} does not fit {model.name}: {error}") from error
    described = {each["name"]: each for each in said["parts"]}
    named = {_name(part): part for part in parts}
    if odd := sorted(named.keys() ^ described.keys()):
        which = f"{plugin} has no" if odd[0] in named else f"{model.name} has no"
        raise PluginError(f"{plugin} does not fit {model.name}: {which} {odd[0]}")
    for name, part in named.items():
        if tuple(described[name]["shape"]) != tuple(part.shape):
            raise PluginError(
                f"{plugin} does not fit {model.name}: its {name} is {described[name]['shape']}, and the model's is "
                f"{list(part.shape)}"
            )
    total = sum(part.numel * getattr(torch, described[name]["dtype"]).itemsize for name, part in named.items())
    with safe_open(plugin, framework="pt") as file, bytes_bar(total, f"attaching {plugin.name}", progress) as bar:

        def new(parameter: str, old: Tensor) -> Tensor:
            for name, part in named.items():
                if part.tensor == parameter:
                    before, value = part.take(old), file.get_tensor(name)
                    _check_value(plugin, name, value, described[name]["sha256"])
                    fitted = _of_dtype(plugin, name, value, old.dtype)
                    if not any_base:
                        _check_base(plugin, model, described[name], before, fitted, said["base"]["name"])
                    part.put(old, fitted)
                    bar.update(value.nbytes)
            return old

        yield list(parts), new


def _check_value(plugin: Path, name: str, value: Tensor, written: str) -> None:
    if sha256(value) != written:
        raise PluginError(f"{plugin} is damaged: {name} is not what was written; copy or make it again")
    try:
        check_finite(f"{name} of {plugin}", value)
    except SfnError as error:
        raise PluginError(str(error)) from error


def _check_base(
    plugin: Path, model: Model, described: Mapping[str, Any], before: Tensor, after: Tensor, base: str
) -> None:
    wanted = described["replaces"].get(plain(before.dtype))
    if sha256(before) != wanted:
        there = ", but what the plug-in puts there: it is in already, or this is the trained model"
        raise PluginError(
            f"{plugin} was made for another base than {model.name}: {described['parameter']} is not that of {base!r}"
            f"{there if torch.equal(before, after) else ''}. Load that one, or say any_base=True"
        )


def _of_dtype(plugin: Path, name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    found = rounded(value, dtype)
    if bool(torch.isinf(found).any()) and not bool(torch.isinf(value).any()):
        raise PluginError(
            f"{name} of {plugin} goes beyond what {plain(dtype)} holds: load the model in {plain(value.dtype)}"
        )
    return found
