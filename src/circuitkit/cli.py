"""The command line: one verb each, imported when it is used.

What a user got wrong is told in one line on stderr, with exit status 2; `--debug` shows the traceback. Where nobody
reads what is printed any more, as behind `| head`, a verb ends without a word.
"""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

from cyclopts import App, CycloptsError, Parameter

import circuitkit

VERBS = {
    "demo": "Find the heads that carry a deduction in an embedded model: the main job, in under a minute.",
    "doctor": "Check a model and its tap on this machine.",
    "patch": "Patch activations, paths and attention between clean and corrupt runs, and measure what each moves.",
    "ablate": "Ablate heads, sets of heads or neurons, and measure what the clean run loses.",
    "attention": "Capture and draw attention patterns, and score tokens by the attention that they receive.",
    "eval": "Let a model answer a task's questions, under ablations too, and judge its answers.",
    "train": "Train a model on examples or a task: in full, by LoRA, some modules frozen, by distillation or GRPO.",
    "circuit": "Find the edges between heads and MLPs that carry a behaviour, and run them alone.",
    "sfn": "Find which modules do the reasoning, from two checkpoints: compare, merge, freeze and destroy them.",
    "sweep": "Run a grid of cells that survives being killed, on one machine or many.",
    "report": "Turn a folder of results into one page that opens without a network.",
}
"""Every verb with its line of help; `circuitkit.commands.VERB` has the function, or the app of its verbs."""

app = App(
    name="circuitkit",
    help="Find which parts of a language model do the reasoning, by changing them and measuring what happens.",
    version=circuitkit.__version__,
    result_action="return_value",
)
for _verb, _help in VERBS.items():
    app.command(f"circuitkit.commands.{_verb}:{_verb}", name=_verb, help=_help)


@app.meta.default
def _run(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="")] = False,
) -> Any:
    """Find which parts of a language model do the reasoning, by changing them and measuring what happens.

    Parameters
    ----------
    debug
        Show the traceback of an error.
    """
    try:
        return app(words, exit_on_error=False, print_error=False)
    except Exception as error:
        if not isinstance(error, CycloptsError) and (debug or not _of_the_user(error)):
            raise
        print(f"circuitkit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


_UNREAD = 141
"""The exit status of what SIGPIPE ends, as shells tell it: 128 + 13."""


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    try:
        status = app.meta(words, result_action="return_value")
        # What is printed last may have waited until now.
        sys.stdout.flush()
    except BrokenPipeError:
        if not _hushed():
            raise
        status = _UNREAD
    sys.exit(status if isinstance(status, int) else 0)


def _hushed() -> bool:
    """Whether nobody reads stdout or stderr any more; what would still be written there then goes nowhere."""
    unread = [stream.fileno() for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
    for descriptor in unread:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(unread)


def _is_unread(stream: TextIO) -> bool:
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return False
    asked = select.poll()
    # Errors and hang-ups are told whatever is asked for.
    asked.register(descriptor, 0)
    return bool(asked.poll(0))


def _of_the_user(error: Exception) -> bool:
    """Whether an error was raised on purpose by this package: one of its own, or a ValueError of its own code."""
    if type(error).__module__.startswith("circuitkit."):
        return True
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    raised_here = frame is not None and str(frame.tb_frame.f_globals.get("__name__", "")).startswith("circuitkit.")
    return raised_here and isinstance(error, ValueError)
