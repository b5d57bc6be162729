"""Actions at sites, held on a model by hooks, and taken off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from circuitkit.model.attention import AttentionTap, Edit, tapped
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Point, first_tensor, with_first_tensor
from circuitkit.model.tokens import Pass

Action = Callable[[Tensor, Pass], Tensor | None]
"""Reads a site's tensor in one forward pass; returns the tensor to go on with, or None to leave it."""


@contextmanager
def holding(
    actions: Mapping[Point, Sequence[Action]],
    attention: Mapping[Point, tuple[Sequence[Action], Sequence[Action]]],
    middles: Mapping[nn.Module, tuple[Point, Sequence[Action]]],
    this_pass: Callable[[], Pass | None],
) -> Iterator[None]:
    """Hold actions on a model.

    Args:
        actions: at module ends.
        attention: on the scores and on the pattern of an attention module.
        middles: by block, on the stream between attention and MLP.
        this_pass: tells of the forward pass under way; None where it is not one to act on.
    """
    with ExitStack() as stack:
        for block, (point, acts) in middles.items():
            _hold_middle(block, point, acts, this_pass, stack)
        for point, acts in actions.items():
            _hold(point, partial(_act, acts, this_pass), stack)
        stack.enter_context(
            tapped(
                [
                    AttentionTap(point.module, _edit(point, scores, this_pass), _edit(point, pattern, this_pass))
                    for point, (scores, pattern) in attention.items()
                ]
            )
        )
        yield


def _edit(point: Point, actions: Sequence[Action], this_pass: Callable[[], Pass | None]) -> Edit:
    """Actions on scores or a pattern, which nobody reads where there is none."""
    return partial(point.apply, partial(_act, actions, this_pass)) if actions else lambda held: None


def _act(actions: Sequence[Action], this_pass: Callable[[], Pass | None], part: Tensor) -> Tensor | None:
    if not actions or (under_way := this_pass()) is None:
        return None
    now, changed = under_way.to(part.device), False
    for action in actions:
        new = action(part, now)
        if new is not None:
            part, changed = new, True
    return part if changed else None


def _hold(point: Point, act: Callable[[Tensor], Tensor | None], stack: ExitStack) -> None:
    def act_on(held: Tensor) -> Tensor | None:
        return point.apply(act, held)

    if point.end == "input":

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if any(isinstance(value, Tensor) for value in args):
                new = act_on(first_tensor(args))
                return None if new is None else (with_first_tensor(args, new), kwargs)
            name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
            new = act_on(kwargs[name])
            return None if new is None else (args, {**kwargs, name: new})

        handle = before_forward(point.module, before)
    else:

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            new = act_on(first_tensor(output))
            return None if new is None else with_first_tensor(output, new)

        handle = point.module.register_forward_hook(after)
    stack.callback(handle.remove)


def _hold_middle(
    block: nn.Module, point: Point, actions: Sequence[Action], this_pass: Callable[[], Pass | None], stack: ExitStack
) -> None:
    """Act on the stream itself: what changes at the second norm's input changes what goes past the MLP too."""
    changes: list[Tensor] = []

    def act(stream: Tensor) -> Tensor | None:
        new = _act(actions, this_pass, stream)
        if new is not None and new is not stream:
            changes.append(new - stream)
        return new

    def pass_on(module: nn.Module, args: Any, output: Any) -> Any:
        if this_pass() is None or not changes:
            return None
        stream = first_tensor(output)
        return with_first_tensor(output, stream + changes.pop().to(stream.device))

    _hold(point, act, stack)
    # First of the block's hooks, so that whoever reads resid_post, in an outer context too, reads the change.
    stack.callback(block.register_forward_hook(pass_on, prepend=True).remove)
