"""What each source writes to the stream in a run, made from heads' `z` when it is needed and never held for all.

A head writes its own `z` through its own slice of the output projection. Where a norm follows the projection (Gemma 2,
OLMo 2), a head's part of the layer's sum is scaled as that run's norm scaled the sum. So in each run the heads of a
layer add up to what its attention adds to the stream, but for a bias that is the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.circuits.attributing.alignment import Aligned
from circuitkit.circuits.attributing.holding import after, before
from circuitkit.circuits.attributing.linear_maps import check_whole, made_of, matrix_of, wide
from circuitkit.circuits.attributing.norms import Norm
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.model.devices import execution_device
from circuitkit.model.points import Heads, Point, Whole
from circuitkit.model.site import Kind, Site
from circuitkit.pairs import Reading
from circuitkit.run.run import forward, nan_advice, nan_row
from circuitkit.run.session import check_dropout

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_INPUT = Site("resid_pre", layer=0)


@dataclass(frozen=True, eq=False)
class HeadWriter:
    """How a layer's heads write: by a matrix each, once `z` is scaled as a norm behind the projection scales it.

    Attributes:
        projection: the output projection.
        n_heads, d_head: of the layer.
        multiplier: with which the layer adds to the stream.
        norm: what follows the projection, if anything does.
    """

    projection: nn.Module
    n_heads: int
    d_head: int
    multiplier: float
    norm: Norm | None

    @classmethod
    def of(cls, model: Model, layer: int) -> HeadWriter:
        """A layer's heads.

        Raises:
            CircuitError: the projection has a bias that a norm mixes with what heads write, or what follows it is no
                norm that is known.
        """
        z, out = model.point(Site("z", layer=layer)), model.point(Site("attn_out", layer=layer))
        block = model.anatomy.blocks[layer]
        d_head = model.layers[layer].d_head
        assert isinstance(out.view, Whole) and isinstance(z.view, Heads) and d_head is not None
        if out.module in (block.o, block.attn):
            return cls(z.module, z.view.n_heads, d_head, out.view.multiplier, None)
        norm = Norm.of(out.module, model.d_model, model.hf.dtype)
        if norm is None:
            raise CircuitError(
                f"layer {layer} of {model.name} puts its heads' sum through a {type(out.module).__name__}, which is "
                "neither a LayerNorm nor an RMSNorm, so what each head writes is not known"
            )
        writer = cls(z.module, z.view.n_heads, d_head, out.view.multiplier, norm)
        if bool(writer.bias(model).any()):
            raise CircuitError(
                f"layer {layer} of {model.name} norms the sum of what its heads write and a bias, so what heads write "
                "does not add up to what attention does but for a constant"
            )
        return writer

    def bias(self, model: Model) -> Float[Tensor, " d_model"]:
        """What the projection adds whatever heads do."""
        nothing = torch.zeros(1, self.n_heads * self.d_head, dtype=model.hf.dtype)
        return made_of(self.projection, nothing.to(execution_device(self.projection)))[0].detach()

    def weight(self, model: Model) -> Float[Tensor, "head d_head d_model"]:
        """What each head's scaled `z` is written by, the layer's multiplier and its norm's gain included."""
        matrix = matrix_of(self.projection, self.n_heads * self.d_head, model.hf.dtype).T
        matrix = matrix.to(wide(matrix.dtype))
        matrix = matrix if self.norm is None else self.norm.applied(matrix)
        matrix = matrix if self.multiplier == 1.0 else matrix * self.multiplier
        return matrix.reshape(self.n_heads, self.d_head, -1)

    def scaled(self, z: Float[Tensor, "*rows head d_head"]) -> Float[Tensor, "*rows head d_head"]:
        """`z` of one run as `weight` takes it: at the scale of that run's own norm."""
        scaled = z.to(wide(z.dtype))
        if self.norm is None:
            return scaled
        with torch.no_grad():
            total = made_of(self.projection, z.flatten(-2))
        return scaled * self.norm.unit(total)[1][..., None]


_writers: WeakKeyDictionary[Model, tuple[HeadWriter, ...]] = WeakKeyDictionary()


def writers(model: Model) -> tuple[HeadWriter, ...]:
    """How each layer's heads write, found out at first use.

    Raises:
        CircuitError: it cannot be told; or the model is divided among processes.
    """
    if model not in _writers:
        check_whole(model)
        Layout.of(model)
        found = tuple(HeadWriter.of(model, layer) for layer in range(model.n_layers))
        _check_sums(model, found)
        _writers[model] = found
    return _writers[model]


def written_by_heads(
    model: Model, layer: int, z: Float[Tensor, "batch position head d_head"]
) -> Float[Tensor, "head batch position d_model"]:
    """What each head of a layer writes to the stream in a run with this `z`, float32 or wider.

    Args:
        model: the model.
        layer: the layer.
        z: of all its heads in one run.

    Raises:
        CircuitError: see `writers`.

    >>> model = ck.load("deductor-130k")
    >>> z = model.run("Every wumpus is a dumpus.", capture=["z"]).cache["z[layer=1]"]
    >>> written_by_heads(model, 1, z).shape
    torch.Size([4, 1, 6, 64])
    """
    writer = writers(model)[layer]
    return _through(writer.scaled(z), writer.weight(model))


def _through(
    z: Float[Tensor, "batch position head d_head"],
    weight: Float[Tensor, "head d_head d_model"],
    out: Float[Tensor, "head batch position d_model"] | None = None,
) -> Float[Tensor, "head batch position d_model"]:
    batch, position = z.shape[:2]
    rows = z.flatten(0, 1).transpose(0, 1)
    weight = weight.to(rows.device)
    if out is None:
        return torch.bmm(rows, weight).view(len(rows), batch, position, -1)
    torch.bmm(rows, weight, out=out.view(len(rows), batch * position, -1))
    return out


class Written:
    """What every source writes in one run.

    Attributes:
        embedding: what enters the first layer.
        z: of each layer.
        mlps: what each layer's MLP writes.
        logits: where the reading reads them.
        attention: what each layer's attention writes, where it was asked for.

    >>> from circuitkit.pairs import Reading
    >>> model = ck.load("deductor-130k")
    >>> tokens = model.tokens("Every wumpus is a dumpus.")
    >>> written = Written.of(model, Reading(tokens, tokens.columns(-1)[:, None]))
    >>> written.heads(0).shape, written.mlp(0).shape
    (torch.Size([4, 1, 6, 64]), torch.Size([1, 6, 64]))
    """

    def __init__(
        self,
        model: Model,
        embedding: Float[Tensor, "batch position d_model"],
        z: list[Float[Tensor, "batch position head d_head"]],
        mlps: list[Float[Tensor, "batch position d_model"]],
        logits: Float[Tensor, "batch reads vocab"],
        attention: list[Float[Tensor, "batch position d_model"]],
    ) -> None:
        self.model, self.embedding, self.z, self.mlps, self.logits = model, embedding, z, mlps, logits
        self.attention = attention

    @classmethod
    def of(cls, model: Model, reading: Reading, *, attention: bool = False) -> Written:
        """Run a batch, and keep what its sources write.

        Args:
            model: the model.
            reading: the batch.
            attention: keep what each layer's attention writes too.

        Raises:
            CircuitError: logits hold NaN; or see `writers`.
        """
        found, device, tokens = writers(model), model.device, reading.tokens
        # Room is made beforehand: between a run's tensors, what is kept would keep its memory from being given back.
        stream = torch.empty(*tokens.ids.shape, model.d_model, dtype=model.hf.dtype, device=device)
        kept: dict[Site, Tensor] = {_INPUT: stream}
        for layer, writer in enumerate(found):
            shape = (*tokens.ids.shape, writer.n_heads, writer.d_head)
            kept[Site("z", layer=layer)] = stream.new_empty(shape)
            kept[Site("mlp_out", layer=layer)] = torch.empty_like(stream)
            if attention:
                kept[Site("attn_out", layer=layer)] = torch.empty_like(stream)
        logits = _run(model, reading, kept)
        layers = range(model.n_layers)

        def each(kind: Kind) -> list[Tensor]:
            return [kept[Site(kind, layer=layer)] for layer in layers]

        return cls(model, stream, each("z"), each("mlp_out"), logits, each("attn_out") if attention else [])

    def heads(self, layer: int) -> Float[Tensor, "head batch position d_model"]:
        """What a layer's heads write."""
        return written_by_heads(self.model, layer, self.z[layer])

    def mlp(self, layer: int) -> Float[Tensor, "batch position d_model"]:
        """What a layer's MLP writes."""
        return self.mlps[layer]


def _run(model: Model, reading: Reading, kept: dict[Site, Tensor]) -> Float[Tensor, "batch reads vocab"]:
    """Run a batch once, and copy what is at each site into the tensor that is kept for it."""
    met: set[Site] = set()
    check_dropout(model)
    with ExitStack() as stack, torch.no_grad():
        for site, room in kept.items():
            point = model.point(site)

            def keep(held: Tensor, site: Site = site, room: Tensor = room, point: Point = point) -> None:
                met.add(site)
                room.copy_(point.view.read(held))

            (before if point.end == "input" else after)(point.module, keep, stack)
        logits = forward(model, reading.tokens, reading.columns)
    if missing := [site for site in kept if site not in met]:
        raise CircuitError(f"{missing[0]} of {model.name} is never reached by the model's forward")
    if (row := nan_row(logits)) is not None:
        raise CircuitError(f"the logits of row {reading.first_row + row} hold NaN: {nan_advice(model)}")
    return logits


def entering(model: Model, reading: Reading) -> Float[Tensor, "batch position d_model"]:
    """What enters the first layer; no layer is run.

    >>> model = ck.load("deductor-130k")
    >>> tokens = model.tokens("Every wumpus is a dumpus.")
    >>> entering(model, Reading(tokens, tokens.columns(-1)[:, None])).shape
    torch.Size([1, 6, 64])
    """
    found: list[Tensor] = []

    def end(stream: Tensor) -> None:
        found.append(stream.clone())
        raise _EnteredError

    with ExitStack() as stack, torch.no_grad():
        before(model.point(_INPUT).module, end, stack)
        with suppress(_EnteredError):
            forward(model, reading.tokens, reading.columns)
    if not found:
        raise CircuitError(f"{_INPUT} of {model.name} is never reached by the model's forward")
    return found[0].to(model.device)


class _EnteredError(Exception):
    """Ends a forward pass of which nothing more is needed."""


class Differences:
    """What each source writes in the corrupt run less what it writes in the clean one, at the clean run's columns.

    Exactly 0 on padding and where a column has no counterpart. Kept as differences of `z`, MLPs and input; heads' own
    are made some at a time.

    Args:
        model: the model.
        aligned: how the two runs' columns stand for each other.
        clean, corrupt: the two runs.

    Raises:
        CircuitError: a difference is NaN.
    """

    def __init__(self, model: Model, aligned: Aligned, clean: Written, corrupt: Written) -> None:
        self.model, self.layout = model, Layout.of(model)

        def less(corrupt: Tensor, clean: Tensor, what: str) -> Tensor:
            dtype = wide(clean.dtype)
            made = aligned.difference(corrupt.to(dtype), clean.to(dtype))
            if bool(torch.isnan(made.sum())):
                raise CircuitError(f"{what} holds NaN in the clean or the corrupt run: {nan_advice(model)}")
            return made

        self.embedding = less(corrupt.embedding, clean.embedding, "what enters the first layer")
        self.z = [
            less(writer.scaled(theirs), writer.scaled(ours), f"z of layer {layer}")
            for layer, (writer, theirs, ours) in enumerate(zip(writers(model), corrupt.z, clean.z, strict=True))
        ]
        self.mlps = [
            less(theirs, ours, f"mlp_out of layer {layer}")
            for layer, (theirs, ours) in enumerate(zip(corrupt.mlps, clean.mlps, strict=True))
        ]

    @property
    def bytes_a_source(self) -> int:
        """What one source's differences take."""
        return self.embedding.numel() * self.embedding.element_size()

    def block(self, rows: slice) -> Float[Tensor, "source batch position d_model"]:
        """Some sources' differences, by their rows in the layout."""
        made = self.embedding.new_empty(rows.stop - rows.start, *self.embedding.shape)
        if rows.start == 0:
            made[0] = self.embedding
        for layer, heads in self._layers(rows):
            whole = self.layout.heads_at(layer)
            writer = writers(self.model)[layer]
            if heads.stop > heads.start:
                some = slice(heads.start - whole.start, heads.stop - whole.start)
                weight = writer.weight(self.model)[some]
                _through(self.z[layer][:, :, some], weight, made[heads.start - rows.start : heads.stop - rows.start])
            if rows.start <= whole.stop < rows.stop:
                made[whole.stop - rows.start] = self.mlps[layer]
        return made

    def _layers(self, rows: slice) -> Iterator[tuple[int, slice]]:
        """The layers that have a source among the rows, and which rows of those are their heads."""
        for layer in range(self.layout.n_layers):
            whole = self.layout.heads_at(layer)
            heads = slice(max(rows.start, whole.start), min(rows.stop, whole.stop))
            if heads.stop > heads.start or rows.start <= whole.stop < rows.stop:
                yield layer, heads


def _check_sums(model: Model, found: tuple[HeadWriter, ...]) -> None:
    """See on one short run that what heads write adds up to what attention adds, but for a constant.

    Raises:
        CircuitError: in a layer it does not.
    """
    ids = (torch.arange(8)[None] * 7 + 3) % int(model.vocabulary or 8)
    cache = model.run(ids, capture=["z", "attn_out"]).cache
    for layer, writer in enumerate(found):
        z, out = cache[Site("z", layer=layer)], cache[Site("attn_out", layer=layer)]
        total = torch.einsum("bphd,hdm->bpm", writer.scaled(z), writer.weight(model).to(z.device))
        off = out.to(total) - total
        off = off - off.mean(1, keepdim=True)
        tolerance = 1e-3 if out.dtype in (torch.float32, torch.float64) else 5e-2
        if not bool(off.norm() <= tolerance * out.to(total).norm().clamp(min=1e-30)):
            raise CircuitError(
                f"what the heads of layer {layer} of {model.name} write through their output projection does not add "
                "up to what its attention adds to the stream, so it has no edges by head"
            )
