"""How a decoder ends: the norm that its last stream goes through, and the unembedding, as one frozen linear map.

Which module is the final norm, and what it does, is found on the model's own numbers, since names do not say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from circuitkit.model.devices import weight_of
from circuitkit.model.points import first_tensor
from circuitkit.model.site import SiteError

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False)
class Ending:
    """What follows the last layer on some rows, its norm's scale held where it is.

    A stream `x` becomes the logits `(centre(x) * scale * gain + shift) @ unembedding.T + bias`, all times `factor`.

    Attributes:
        centred: whether the norm takes the mean away (LayerNorm) or not (RMSNorm).
        scale: what each row is multiplied by.
        gain, shift: the norm's parameters.
        unembedding, bias: the output layer's.
        factor: what the logits are multiplied by at the very end.
    """

    centred: bool
    scale: Float[Tensor, " batch"]
    gain: Float[Tensor, " d_model"]
    shift: Float[Tensor, " d_model"]
    unembedding: Float[Tensor, "vocab d_model"]
    bias: Float[Tensor, " vocab"] | None
    factor: float

    def directions(
        self, answer: Int[Tensor, " batch"], distractor: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, " batch"]]:
        """The direction in the stream that each row's logit difference reads, and what is added whatever the stream."""
        # The final norm may be on another device than an unembedding that is tied to the embedding.
        device = self.unembedding.device
        answer, distractor = answer.to(device), distractor.to(device)
        between = wide(self.unembedding[answer]) - wide(self.unembedding[distractor])
        constant = between @ self.shift.to(device)
        if self.bias is not None:
            constant = constant + wide(self.bias.to(device)[answer] - self.bias.to(device)[distractor])
        read = between * self.gain.to(device) * self.scale.to(device)[:, None]
        if self.centred:
            read = read - read.mean(-1, keepdim=True)
        return read * self.factor, constant * self.factor


def wide(tensor: Tensor) -> Tensor:
    """At least single precision, in which sums of many parts hold."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def close(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    """Whether two tensors are equal but for the rounding of a dtype."""
    tolerance = 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2
    return a.shape == b.shape and bool((wide(a) - wide(b)).norm() <= tolerance * wide(b).norm().clamp(min=1e-30))


class Watch:
    """What the modules outside the layers made of the last layer's stream, in one forward."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.stream: Tensor | None = None
        self.read_it: list[tuple[nn.Module, Tensor]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the context lasts."""
        blocks = self.model.anatomy.blocks
        inside = {module for block in blocks for module in block.block.modules()}
        outside = [module for module in self.model.anatomy.root.modules() if module not in inside]
        handles = [blocks[-1].block.register_forward_hook(self._note_stream)]
        handles += [module.register_forward_hook(self._note, with_kwargs=True) for module in outside]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note_stream(self, module: nn.Module, args: Any, output: Any) -> None:
        self.stream = first_tensor(output).detach()

    def _note(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        entering = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if self.stream is None or not entering or not isinstance(output, Tensor):
            return
        if output.shape == self.stream.shape and torch.equal(entering[0], self.stream):
            self.read_it.append((module, output.detach()))

    def ending(self, columns: Int[Tensor, " batch"], logits: Float[Tensor, "batch vocab"]) -> Ending:
        """How the model ends on these rows, at one column of each.

        Raises:
            SiteError: the logits are no linear function of the stream, its norm's scale held; what is in the way is
                named.
        """
        name, unembed = self.model.name, self.model.anatomy.root.get_output_embeddings()  # type: ignore[operator]  # a method
        if self.stream is None or not self.read_it:
            raise SiteError(f"{name} has no final norm that reads the last layer's stream, so it has no direct logits")
        rows = torch.arange(len(columns), device=self.stream.device)
        stream = self.stream[rows, columns.to(self.stream.device)]
        for module, output in self.read_it:
            normed = output[rows, columns.to(output.device)]
            if (norm := _norm(module, stream, normed)) is not None:
                break
        else:
            kinds = ", ".join(type(module).__name__ for module, _ in self.read_it)
            raise SiteError(f"{name}'s final {kinds} is neither a LayerNorm nor an RMSNorm, so no scale can be frozen")
        centred, scale, gain, shift = norm
        with torch.no_grad():
            plain = wide(unembed(normed)).to(logits.device)
        factor = float((plain * logits).sum() / (plain * plain).sum())
        if not close(plain * factor, logits, normed.dtype):
            raise SiteError(
                f"{name}'s logits are not its unembedding of the final norm's output (final_logit_softcapping="
                f"{getattr(self.model.config, 'final_logit_softcapping', None)}), so no part of the stream has a share "
                "of its own in them: use logit_lens"
            )
        weight, bias = weight_of(unembed), weight_of(unembed, "bias")
        assert weight is not None
        scale, gain, shift = (each.to(weight.device) for each in (scale, gain, shift))
        return Ending(centred, scale, gain, shift, weight, bias, factor)


def _norm(module: nn.Module, stream: Tensor, normed: Tensor) -> tuple[bool, Tensor, Tensor, Tensor] | None:
    """Whether a module centres, each row's scale, its gain and its shift; None where it is no such norm."""
    width = stream.shape[-1]
    # Large, of mean 0 and of one magnitude, so that a norm of either kind makes it ±1, and its epsilon is nothing.
    probe = 1e4 * torch.tensor([1.0, -1.0], dtype=stream.dtype, device=stream.device).repeat(width // 2 + 1)[:width]
    with torch.no_grad():
        up, down = wide(module(probe[None, None])[0, 0]), wide(module(-probe[None, None])[0, 0])
    shift, gain = (up + down) / 2, (up - down) / 2 * probe.sign()
    stream, left = wide(stream), wide(normed) - shift
    for centred in (False, True):
        shaped = (stream - stream.mean(-1, keepdim=True) if centred else stream) * gain
        scale = (left * shaped).sum(-1) / (shaped * shaped).sum(-1)
        if width % 2 == 0 and close(shaped * scale[:, None], left, normed.dtype):
            return centred, scale, gain, shift
    return None
