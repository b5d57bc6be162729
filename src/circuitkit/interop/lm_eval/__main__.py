"""lm-eval's own command, which knows circuitkit's model and tasks: `python -m circuitkit.interop.lm_eval --model …`."""

from __future__ import annotations

import sys

from lm_eval.__main__ import cli_evaluate

from circuitkit.interop.lm_eval import TASKS, harness_model

__all__ = ["harness_model", "main"]  # importing its module has registered the model


def main() -> None:
    """Hand the command line over to lm-eval; circuitkit's tasks are included where no other folder is."""
    words = sys.argv[1:]
    runs = any(word.startswith("--tasks") or word == "-t" for word in words)
    if runs and not any(word.startswith("--include_path") for word in words):
        sys.argv += ["--include_path", str(TASKS)]
    cli_evaluate()


if __name__ == "__main__":
    main()
