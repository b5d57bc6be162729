"""Freezing: some modules of a model are trained, by whatever loop, and the others are proven not to have moved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

from transformers import TrainerCallback

from circuitkit.model import Model, SiteError, roles
from circuitkit.model.devices import divided
from circuitkit.model.freezing import Needs, Unmoved, frozen, give_back, train_only, trainable
from circuitkit.model.roles import RoleError
from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.progress import bytes_bar
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from torch import nn


class FreezeError(SfnError):
    """Modules that cannot be trained alone, or a frozen tensor that has moved all the same."""


def freeze(
    model: Model | Any, train: str | Sequence[str], layers: int | Iterable[int] | None = None, *, progress: bool = True
) -> Frozen:
    """Let only some modules of a model be trained, by `ck.train`, transformers' and trl's trainers, or any other loop.

    Every other parameter needs no gradient from here on, and is hashed, so that `Frozen.verify` can tell whether one
    has moved. Of a PEFT model, the adapters of the modules are trained and the base stays frozen. `ck.train` without
    `train` then trains what is free.

    Args:
        model: a `ck.Model`, a Hugging Face causal LM, or a PEFT model around one; changed in place.
        train: roles (`o_proj`), groups (`mlp`), or names of modules or parameters, `*` standing for any text. The
            paper trains the embedding, the unembedding and all norms too: `["o_proj", "embed", "lm_head", "norm"]`.
        layers: only modules of these layers, negative ones from the end, and those outside of layers; all if None.
        progress: show a bar while tensors are hashed, where that takes more than two seconds.

    Raises:
        FreezeError: the model has no such module or layer; one is a tensor with another (GPT-2's q with k and v, a tied
            embedding with the unembedding), is quantised, offloaded, or divided among processes (FSDP, ZeRO-3); or, in
            a PEFT model, has no adapter.

    Source: Freeze of Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993).

    >>> with freeze(ck.load("deductor-130k").hf, ["o_proj"]) as frozen:
    ...     frozen.trainable, frozen.total
    (12288, 133632)
    """
    model = model if isinstance(model, Model) else Model(model)
    _check_whole(model)
    wanted = (train,) if isinstance(train, str) else tuple(train)
    within = tuple(layers) if isinstance(layers, Iterable) else None if layers is None else (layers,)
    try:
        names = roles.chosen(model, wanted, within)
    except (RoleError, SiteError) as error:
        raise FreezeError(str(error)) from error
    if not names:
        raise FreezeError(f"train={list(wanted)} in layers {layers} leaves no weight of {model.name} to train")
    if model.hf is not model.anatomy.root:
        names = _adapters(model, names)
    _check_trainable(model, names)
    return Frozen(model, names, progress=progress)


class Frozen(Shown):
    """A model of which only some modules are trained; a context at whose end that is checked and undone.

    Attributes:
        names: the parameters that are trained, by the names that the causal LM gives them.
        trainable, total: how many numbers are trained, and how many the model has, adapters included; tied ones once.
    """

    def __init__(self, model: Model, names: Sequence[str], *, progress: bool) -> None:
        self.names = tuple(names)
        self._model, self._progress = model, progress
        root = model.anatomy.root
        inside = {id(parameter) for name, parameter in root.named_parameters() if name in set(names)}
        # Adapters may lie around the causal LM.
        of_all = {name for name, parameter in self._hf.named_parameters() if id(parameter) in inside}
        self._before: Needs | None = train_only(self._hf, of_all)
        self._trained = of_all
        self.trainable, self.total = trainable(self._hf), _count(self._hf)
        try:
            with self._bar("reading") as bar:
                self._unmoved = Unmoved.of(self._hf, bar.update)
        except BaseException:
            self.thaw()
            raise

    @property
    def _hf(self) -> nn.Module:
        hf: nn.Module = self._model.hf
        return hf

    def _says(self) -> list[str]:
        n = len(self.names)
        return [
            f"{self.trainable:,} of {self.total:,} numbers of {self._model.name} are trained, in {n} "
            f"tensor{'s' * (n != 1)}; all else is held as it was."
        ]

    def verify(self) -> None:
        """Hold every frozen tensor, bit for bit, against what it was when the model was frozen.

        Raises:
            FreezeError: one has moved; it is named. Or the model is divided among processes now (FSDP, ZeRO-3): hold
                what it saves against what it was with `ck.sfn.moved`.
        """
        _check_whole(self._model)
        with self._bar("verifying") as bar:
            self._unmoved.check(self._hf, FreezeError, bar.update)

    def callback(self) -> TrainerCallback:
        """A callback for transformers' and trl's trainers that verifies at the end of a training.

        Raises:
            FreezeError: at a training's start, it is of another model, something else is trained than was said, or the
                model is divided among processes; at its end, a frozen tensor has moved.
        """
        return _Verifying(self)

    def check_needs(self, hf: nn.Module) -> None:
        """Refuse a training of another model, or of other parameters than were said.

        Raises:
            FreezeError: see above; a parameter is named.
        """
        _check_whole(self._model)
        mine = {id(parameter) for parameter in self._hf.parameters()}
        if not any(id(parameter) in mine for parameter in hf.parameters()):
            raise FreezeError(
                f"another model is trained than {self._model.name}, which was frozen: give the trainer that one, not "
                "its name or a copy"
            )
        for name, parameter in self._hf.named_parameters():
            if parameter.requires_grad != (name in self._trained):
                now, was = ("is trained", "frozen") if parameter.requires_grad else ("is frozen", "to be trained")
                raise FreezeError(f"{name} of {self._model.name} {now} and was {was}: something has set requires_grad")

    def thaw(self) -> None:
        """Let each parameter need a gradient, or none, as before the freeze; at once, and only the first time."""
        if self._before is not None:
            give_back(self._before)
            self._before = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.verify()
        finally:
            self.thaw()

    def _bar(self, what: str) -> Any:
        total = sum(tensor.nbytes for _, tensor in frozen(self._hf))
        return bytes_bar(total, f"{what} what is frozen of {self._model.name}", self._progress)

    def __repr__(self) -> str:
        return f"Frozen({self._model.name!r}, {self.trainable:,} of {self.total:,} trained, {len(self.names)} tensors)"


class _Verifying(TrainerCallback):
    """Checks what a trainer is about to train, and what it has not."""

    def __init__(self, frozen: Frozen) -> None:
        self._frozen = frozen

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._frozen.check_needs(model)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._frozen.verify()


def _adapters(model: Model, names: Sequence[str]) -> list[str]:
    """The adapters' parameters among those of chosen modules, all of which must have one."""
    root = model.anatomy.root
    needing = {name for name, parameter in model.hf.named_parameters() if parameter.requires_grad}
    if not needing:
        raise FreezeError(
            f"nothing of {model.name}'s adapter needs a gradient: load it with PeftModel.from_pretrained(…, "
            "is_trainable=True), or thaw what froze it"
        )
    owners, named = roles.adapted(root), dict(root.named_parameters())
    found = [name for name in names if name in owners and named[name].requires_grad]
    having = {owners[name] for name in found}
    for name in names:
        if owners.get(name) not in having:
            raise FreezeError(
                f"{name} of {model.name} has no adapter that needs a gradient, and a PEFT model's base stays as it is: "
                "name its module among the adapter's target_modules or modules_to_save, leave it out of train, name "
                "other layers, or thaw what froze its adapter"
            )
    return found


def _check_whole(model: Model) -> None:
    """Refuse a model of whose tensors a process sees a share alone, as which none can be held against what it was."""
    if (name := divided(model.hf)) is not None:
        raise FreezeError(
            f"{name} of {model.name} is divided among processes (FSDP, ZeRO-3 or tensor parallelism), where what is "
            "frozen cannot be verified: freeze the model before it is divided, leave the callback and the context out, "
            "and check what the training saves with ck.sfn.moved(before, after, train).check()"
        )


def _check_trainable(model: Model, names: Sequence[str]) -> None:
    named = dict(model.anatomy.root.named_parameters())
    for name in names:
        if not named[name].is_floating_point():
            kind = str(named[name].dtype).removeprefix("torch.")
            raise FreezeError(f"{name} of {model.name} is quantised ({kind}) and cannot be trained: train an adapter")
    if offloaded := next((name for name, parameter in named.items() if parameter.is_meta), None):
        raise FreezeError(
            f"{offloaded} of {model.name} is offloaded, where it can neither be trained nor verified: load the model "
            "onto devices that hold all of it"
        )


def _count(hf: nn.Module) -> int:
    # Four bits lie two in a byte, and the shape that they stand for beside them.
    shapes = [getattr(each, "quant_state", each).shape for each in hf.parameters()]
    return sum(math.prod(shape) for shape in shapes)
