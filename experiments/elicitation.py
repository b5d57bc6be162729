"""From which size do a few examples suffice? Fine-tuning on 29 to 928 proofs, fully and by rank-1 LoRA.

    python experiments/elicitation.py --out FOLDER --published

`--published` needs no model: it puts Table 1 of "Reasoning Elicitation is Scale Dependent" (NeurIPS 2025 workshop)
through `ck.statistics.recovered`, and draws the paper's four figures.

What it writes: `table_1.csv`; `recovered.csv` (a row a size, benchmark and training: the gain over the base, the share
of the way to the skyline, each with its intervals, or why that share is undefined); `lora_against_full.csv` (how much
of full fine-tuning's gain rank-1 LoRA has); `figure_1.png` to `figure_4.png`; `sentences.md`; `provenance.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from eliciting.published import published_study

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


@app.default
def main(
    *,
    out: Path,
    published: Annotated[bool, Parameter(negative="")] = False,
    draws: int = 10_000,
    seed: int = 0,
) -> None:
    """Measure how far a few examples take models of several sizes.

    Parameters
    ----------
    out
        Folder for tables (CSV), figures (PNG), sentences and provenance (JSON).
    published
        The published table alone, without any model.
    draws
        Bootstrap draws of each interval.
    seed
        Of the draws.
    """
    if published:
        published_study(out, draws=draws, seed=seed)
        return
    raise SystemExit("nothing to do: add --published")


if __name__ == "__main__":
    app()
