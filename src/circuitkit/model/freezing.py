"""Which of a model's weights are trained, and the proof that the others did not move."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from circuitkit.model.fingerprint import content_digest

Needs = Mapping[nn.Parameter, bool]
"""Of each parameter, whether it needs a gradient."""


def train_only(root: nn.Module, names: Collection[str]) -> Needs:
    """Let the parameters of some names need a gradient, and no others; gives what each needed before.

    A frozen one's gradient is dropped, by which an optimizer that knows it would move it still.

    >>> layer = nn.Linear(2, 3)
    >>> before = train_only(layer, {"bias"})
    >>> layer.weight.requires_grad, before[layer.weight]
    (False, True)
    """
    before = {parameter: parameter.requires_grad for parameter in root.parameters()}
    for name, parameter in root.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
        else:
            _freeze(parameter)
    return before


def give_back(before: Needs) -> None:
    """Let parameters need a gradient, or none, as they did before, and drop their gradients."""
    for parameter, needed in before.items():
        if needed:
            parameter.requires_grad_(True)
            parameter.grad = None
        else:
            _freeze(parameter)


def trainable(hf: nn.Module) -> int:
    """How many parameters are trained, a tied tensor counted once.

    >>> trainable(nn.Linear(2, 3))
    9
    """
    return sum(each.numel() for each in hf.parameters() if each.requires_grad)


@dataclass(frozen=True)
class Unmoved:
    """What is not trained, by the hash of each tensor: parameters that need no gradient, and buffers that are saved.

    >>> layer = nn.Linear(2, 3).requires_grad_(False)
    >>> was = Unmoved.of(layer)
    >>> layer.bias.add_(1) is layer.bias, was.moved(layer)
    (True, ['bias'])
    """

    hashes: Mapping[str, str]

    @classmethod
    def of(cls, hf: nn.Module, read: Callable[[int], object] = lambda nbytes: None) -> Unmoved:
        """The frozen tensors of a model as they are.

        Args:
            hf: the model.
            read: told of each tensor's bytes as they are read.
        """
        hashes = {}
        for name, tensor in frozen(hf):
            hashes[name] = _hash(tensor)
            read(tensor.nbytes)
        return cls(hashes)

    def moved(self, hf: nn.Module, read: Callable[[int], object] = lambda nbytes: None) -> list[str]:
        """The tensors of a model that are not as they were, or not there, by name.

        Args:
            hf: the model.
            read: told of each tensor's bytes as they are read.
        """
        tensors = {**dict(hf.named_parameters()), **dict(hf.named_buffers())}
        found = []
        for name, was in self.hashes.items():
            if (tensor := tensors.get(name)) is None or _hash(tensor) != was:
                found.append(name)
            read(0 if tensor is None else tensor.nbytes)
        return found

    def check(self, hf: nn.Module, error: type[Exception], read: Callable[[int], object] = lambda nbytes: None) -> None:
        """Raise an error that names a tensor that has moved, if one has."""
        if moved := self.moved(hf, read):
            raise error(
                f"{len(moved)} tensors were to stay frozen and have moved, {moved[0]} among them: an optimizer, "
                "a hook or a thread wrote into the model while it was trained"
            )


def frozen(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What of a model training leaves as it is, by name: parameters that need no gradient, buffers that are saved."""
    saved = hf.state_dict(keep_vars=True)
    for name, parameter in hf.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter
    for name, buffer in hf.named_buffers():
        if name in saved:
            yield name, buffer


def _freeze(parameter: nn.Parameter) -> None:
    parameter.requires_grad_(False)
    parameter.grad = None


def _hash(tensor: Tensor) -> str:
    return content_digest({"": tensor})
