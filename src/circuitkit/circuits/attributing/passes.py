"""One forward and one backward pass, and what comes back at every destination on the way.

Parameters need no gradient (see `frozen_weights`), and none is made at the heads' inputs: gradients are taken at
queries, keys and values, at an MLP's own copy of the stream and at the last stream, as backward comes by, so that
nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from circuitkit.circuits.attributing.entrances import PROJECTED, Entrance, Projected, Reads
from circuitkit.circuits.attributing.holding import after, before
from circuitkit.circuits.attributing.reading import Received
from circuitkit.circuits.errors import CircuitError
from circuitkit.metrics import Metric, Targets
from circuitkit.model.forwards import forward_replaced
from circuitkit.model.site import Site
from circuitkit.pairs import Reading
from circuitkit.run.run import forward, nan_advice, nan_row
from circuitkit.run.session import check_dropout

if TYPE_CHECKING:
    from circuitkit.model.model import Model

INPUT = Site("resid_pre", layer=0)
"""What enters the first layer: where `input` writes."""


@contextmanager
def frozen_weights(hf: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient, so that none is made and nothing is kept for it.

    It has to last until all gradients are there: layers that are computed again on the way back have to find the
    parameters as they were on the way there.
    """
    asking = [parameter for parameter in hf.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def read_logits(logits: Float[Tensor, "batch reads vocab"], metric: Metric) -> Float[Tensor, "batch *reads vocab"]:
    """Logits as a metric takes them."""
    return logits[:, 0] if metric.positions == "last" else logits


class GradientPass:
    """A forward and a backward pass of a batch, from a place where something else is put in.

    Args:
        model: the model.
        reading: the batch.
        received: where gradients at destinations go.
        site: where the pass begins: what enters the first layer, or what a layer's attention or MLP writes.
        value: what is put in there.
        checkpointing: keep each layer's input alone, and compute the layer again on the way back.
    """

    def __init__(
        self,
        model: Model,
        reading: Reading,
        received: Received,
        site: Site,
        value: Float[Tensor, "batch position d_model"],
        *,
        checkpointing: bool = False,
    ) -> None:
        self.model, self.reading, self.received, self.site = model, reading, received, site
        self.value, self.checkpointing = value.detach().requires_grad_(), checkpointing
        # The first layer whose attention reads what is put in, and whether the MLP of the one before does.
        self.first = 0 if site == INPUT else int(site.layer or 0) + 1
        self.mlp_too = site.kind == "attn_out" and not received.layout.parallel[int(site.layer or 0)]
        self._awaited: set[str] = set()
        self._met: set[str] = set()
        self._came: set[str] = set()
        self._put_in = False

    def run(self, metric: Metric, targets: Targets, weight: float = 1.0) -> Float[Tensor, " batch"]:
        """Run it, and give the metric's values; gradients are those of minus the metric, times the weight.

        Raises:
            CircuitError: a place was never reached, the metric's values have no gradient, or logits hold NaN.
        """
        check_dropout(self.model)
        with ExitStack() as stack, torch.enable_grad():
            self._hold(stack)
            logits = forward(self.model, self.reading.tokens, self.reading.columns)
            if (row := nan_row(logits.detach())) is not None:
                raise CircuitError(
                    f"the logits of row {self.reading.first_row + row} hold NaN: {nan_advice(self.model)}"
                )
            self._check("is never reached by the model's forward", self._met)
            values = metric(read_logits(logits, metric), targets.to(logits.device))
            if not values.requires_grad:
                raise CircuitError(
                    f"metric {metric.name!r} gives values without a gradient: compute them from the logits by "
                    "operations that torch differentiates (no argmax, comparison, .detach() or numpy)"
                )
            keep = any(reads.needs_graph for reads in self.received.reads)
            torch.autograd.grad(-(values * weight).sum(), self.value, retain_graph=keep)
        self._check("gets no gradient", self._came)
        self.received.done()
        return values.detach()

    def _check(self, what: str, seen: set[str]) -> None:
        if missing := sorted(self._awaited - seen):
            raise CircuitError(f"{missing[0]} of {self.model.name} {what}, so its edges have no scores")
        if not self._put_in:
            raise CircuitError(f"{self.site} of {self.model.name} is never reached by the model's forward")

    # What is held on the model

    def _hold(self, stack: ExitStack) -> None:
        blocks = self.model.anatomy.blocks
        if self.checkpointing:
            # On a GPU, layers are computed again in a thread of autograd's, where nothing is put in: the layer in which
            # it is put in is not among them.
            for block in blocks[self.first :]:
                stack.enter_context(forward_replaced(block.block, _checkpointed(block.block.forward)))
        self._put(stack)
        for layer, (block, reads) in enumerate(zip(blocks, self.received.reads, strict=True)):
            if layer >= self.first:
                self._hold_layer(layer, block.block, reads, stack)
            elif layer == self.first - 1 and self.mlp_too:
                self._hold_mlp(layer, reads, stack)
        self._on_output(blocks[-1].block, "the last stream", self._last, stack)

    def _put(self, stack: ExitStack) -> None:
        """Put the value in at its site."""
        point = self.model.point(self.site)

        def instead(held: Tensor) -> Tensor:
            self._put_in = True
            # A copy, since some layers add to what they are handed in place, and this one is asked for its gradient.
            value = self.value.to(held.device, held.dtype).clone()
            return point.own(point.view.write(held, value))

        if point.end == "input":
            before(point.module, instead, stack)
        else:
            after(point.module, instead, stack)

    def _hold_layer(self, layer: int, block: nn.Module, reads: Reads, stack: ExitStack) -> None:
        streams: list[Tensor] = []

        def enter(stream: Tensor) -> None:
            # Autograd goes back to it, where it has to.
            streams[:] = [stream] if reads.needs_graph else []
            self.received.enter(layer, stream)

        before(block, enter, stack)
        kinds: dict[nn.Module, list[Projected]] = {}
        for kind in PROJECTED:
            kinds.setdefault(reads.heads[kind].point.module, []).append(kind)
        for module, of_module in kinds.items():
            self._hold_projection(layer, module, of_module, reads, streams, stack)
        self._hold_mlp(layer, reads, stack, streams)

    def _hold_projection(
        self,
        layer: int,
        module: nn.Module,
        kinds: list[Projected],
        reads: Reads,
        streams: list[Tensor],
        stack: ExitStack,
    ) -> None:
        name = f"{', '.join(kinds)} of layer {layer}"
        handed: list[Tensor] = []
        if any(reads.heads[kind].way == "graph" for kind in kinds):
            before(module, handed.append, stack)

        def back(gradient: Tensor, made: Tensor) -> None:
            # A detached tensor counts what is written into the one that it was taken from.
            if made._version:
                raise CircuitError(
                    f"{self.model.name} writes into {name} in place, so what it was is lost: its code has to make a "
                    "new tensor there"
                )
            for kind in kinds:
                entrance = reads.heads[kind]
                self.received.heads(layer, kind, entrance.point.view.read(gradient), entrance.point.view.read(made))
                if entrance.way == "graph":
                    self.received.behind(layer, kind, streams[0], handed[0], gradient)

        self._on_output(module, name, back, stack)

    def _hold_mlp(self, layer: int, reads: Reads, stack: ExitStack, streams: list[Tensor] | None = None) -> None:
        name = f"what the MLP reads in layer {layer}"
        entrance: Entrance | None = reads.parallel_mlp
        point = reads.mlp if entrance is None else entrance.point
        assert point is not None  # a layer is the one or the other
        handed: list[Tensor] = []
        self._awaited.add(name)

        def back(gradient: Tensor) -> None:
            self._came.add(name)
            if entrance is not None and entrance.way == "graph":
                assert streams is not None
                self.received.behind(layer, None, streams[0], handed[0], gradient)
            else:
                self.received.mlp(layer, gradient)

        def copy(taken: Tensor) -> Tensor:
            # The branch's own: nobody else reads it, so its gradient is the branch's alone.
            own = taken.view_as(taken)
            if name not in self._met:
                self._met.add(name)
                if entrance is not None and entrance.way == "graph":
                    handed.append(taken)
                self._on_gradient(own, name, back)
            return own

        before(point.module, copy, stack)

    def _last(self, gradient: Tensor, made: Tensor) -> None:
        self.received.logits(gradient)

    def _on_output(
        self, module: nn.Module, name: str, back: Callable[[Tensor, Tensor], None], stack: ExitStack
    ) -> None:
        """Call back with the gradient at a module's output, and with the output."""
        self._awaited.add(name)

        def meet(output: Tensor) -> None:
            # Computed again on the way back, it comes by a second time.
            if name in self._met:
                return
            self._met.add(name)
            made = output.detach()

            def come(gradient: Tensor) -> None:
                self._came.add(name)
                back(gradient, made)

            self._on_gradient(output, name, come)

        after(module, meet, stack)

    def _on_gradient(self, tensor: Tensor, name: str, back: Callable[[Tensor], None]) -> None:
        if not tensor.requires_grad:
            raise CircuitError(
                f"{name} of {self.model.name} carries no gradient: is the model quantised in a way that is not "
                "differentiated, or does its own gradient checkpointing run layers without one? Load it otherwise, or "
                "call model.hf.gradient_checkpointing_disable() and use checkpointing=True"
            )
        tensor.register_hook(back)  # type: ignore[no-untyped-call]  # torch's own has no types


def _checkpointed(whole: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(whole, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
