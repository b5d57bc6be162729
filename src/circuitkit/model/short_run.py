"""One short run of a decoder, to see what its modules are handed and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from circuitkit.model.anatomy import Anatomy
from circuitkit.model.devices import execution_device
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Point, first_tensor
from circuitkit.model.sharding import Held, division, every_process
from circuitkit.model.site import Site, SiteError

_TOKENS = 8


def short_run(anatomy: Anatomy, group: Any = None) -> Any:
    """Run a few tokens; returns the decoder's settings.

    Raises:
        SiteError: the decoder's tensors are divided among a group of processes, and it does not run so.
    """
    root: Any = anatomy.root
    config = root.config.get_text_config() if hasattr(root.config, "get_text_config") else root.config
    ids = (torch.arange(_TOKENS) * 7 + 3)[None] % config.vocab_size
    ids = ids.to(execution_device(anatomy.embed))
    try:
        with _evaluating(root), torch.no_grad():
            root(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except RuntimeError as error:
        if group is None:
            raise
        raise SiteError(
            f"{type(root).__name__} does not run divided among processes by this plan ({error}): where its code counts "
            "on every head being there, no plan helps, and device_map='auto' spreads it over the GPUs of one process"
        ) from error
    return config


@contextmanager
def _evaluating(root: nn.Module) -> Iterator[None]:
    """Dropout off, and each module's own training flag back at the end."""
    flags = {module: module.training for module in root.modules()}
    root.eval()
    try:
        yield
    finally:
        for module, flag in flags.items():
            module.training = flag


def keepers(part: str, keep: Callable[[str, str, Any], None]) -> tuple[Callable[..., None], Callable[..., None]]:
    """A forward pre-hook and a forward hook that hand on what a part was given and returned."""

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        if values := [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]:
            keep(part, "input", values)

    def after(module: nn.Module, args: Any, output: Any) -> None:
        keep(part, "output", output)

    return before, after


@contextmanager
def removed(handle: Any) -> Iterator[None]:
    """Take a hook off at the end."""
    try:
        yield
    finally:
        handle.remove()


def module_point(anatomy: Anatomy, site: Site, module: nn.Module, group: Any) -> Point:
    """Where a module's input or output is, of which each process may hold a part.

    Raises:
        SiteError: the processes hold what cannot be put together, or a short run does not call the module.
    """
    held: list[Held] = []

    def keep(part: str, end: str, values: Any) -> None:
        if end == site.end and not held:
            held.append(Held.of(first_tensor(values)))

    before, after = keepers("", keep)
    with (
        removed(before_forward(module, before)),
        removed(module.register_forward_hook(after)),
    ):
        short_run(anatomy, group)
    said = every_process(held, group)
    if not all(said):
        raise SiteError(f"{site}: a short run does not call it on every process, so what each holds is not known")
    try:
        return Point(module, site.end, shard=division(module, site.end, [each[0] for each in said], group))
    except SiteError as error:
        raise SiteError(f"{site}: {error}") from error
