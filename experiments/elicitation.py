"""From which size do a few examples suffice? Fine-tuning on 29 to 928 proofs, fully and by rank-1 LoRA.

    python experiments/elicitation.py --out FOLDER --preset small
    python experiments/elicitation.py --out FOLDER --preset full --workers 2
    python experiments/elicitation.py --out FOLDER --published
    python experiments/elicitation.py --out FOLDER --data simplescaling/s1K-1.1 --task aime \\
        --models Qwen/Qwen2.5-1.5B-Instruct:deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B

A base model is fine-tuned on nested subsets of a thousand reasoning traces, fully, and by rank-1 LoRA on all of them.
How much of the way to its skyline, a reasoning model of the same size, does it go? The protocol is that of "Reasoning
Elicitation is Scale Dependent" (NeurIPS 2025 workshop), whose bases are Qwen2.5-Instruct and whose skylines are
DeepSeek-R1-Distill-Qwen. Without `--models` it is asked of the embedded family, whose `-base` models hardly write
proofs and whose `-reason` models do. Beside the paper's figures, for each size: how the weights moved, and how alike
the representations of base, trained model and skyline are.

A run that is cut short goes on where it stopped when it is run again, and any number of processes or machines may run
it in the same folder at once.

`--published` needs no model: it puts the paper's Table 1 through `ck.statistics.recovered`, and draws its four figures.
It writes `table_1.csv`; `recovered.csv` (a row a size, benchmark and training: the gain over the base, the share of the
way to the skyline, each with its intervals, or why that share is undefined); `lora_against_full.csv` (how much of full
fine-tuning's gain rank-1 LoRA has); `figure_1` to `figure_4` as PNG and SVG; `sentences.md`; `provenance.json`.

Else it writes `elicited.csv` (the same for every training, with validation losses and what failed); `sufficiency.csv`
and `fewest.csv` (what the answer goes by); `learning_rates.csv` and `trainings.csv`; `comparisons.csv`,
`moved_by_role.csv`, `alike_by_layer.csv` and `against_gain.csv`; a figure each; `sentences.md`; `provenance.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter
from eliciting.plans import family_study, hub_study
from eliciting.published import published_study

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


@app.default
def main(
    *,
    out: Path,
    published: Annotated[bool, Parameter(negative="")] = False,
    preset: Literal["small", "full"] = "small",
    models: tuple[str, ...] = (),
    data: str | None = None,
    task: str = "aime",
    max_new_tokens: int = 29_000,
    limit: int | None = None,
    device_batch_size: int = 1,
    rates: tuple[float, ...] = (),
    lora_rates: tuple[float, ...] = (),
    steps: int | None = None,
    examples: tuple[int, ...] = (),
    trainings: int | None = None,
    workers: int | None = None,
    draws: int = 10_000,
    seed: int = 0,
) -> None:
    """Measure how far a few examples take models of several sizes.

    Parameters
    ----------
    out
        Folder for tables (CSV), figures (PNG, SVG), sentences and provenance (JSON), and for what is gone on with.
    published
        The published table alone, without any model.
    preset
        How much is run on the embedded family: "small" takes some minutes and shows how it goes; "full" is the study.
    models
        Pairs BASE:SKYLINE of hub ids or folders, smallest first, instead of the embedded family; with --data.
    data
        Reasoning traces: a data set of the hub, or a file (.jsonl, .json, .csv), with the fields question,
        deepseek_thinking_trajectory and deepseek_attempt.
    task
        What models of --models are asked, by name or path, as in `circuitkit eval`; "aime" is 2024 and 2025.
    max_new_tokens
        Where a response of theirs is broken off.
    limit
        The first questions of the task alone.
    device_batch_size
        Examples that go through a model of --models at once.
    rates
        Learning rates of full fine-tuning, where not the preset's (with --models: the paper's 1e-5). Where there are
        several, the validation loss chooses, for each size.
    lora_rates
        The same for rank-1 LoRA (with --models: 1e-3).
    steps
        Steps of a training, at most, where not the preset's.
    examples
        Numbers of examples, out of 928, 464, 232, 116, 58 and 29, where not the preset's.
    trainings
        Trainings of each kind, each with a seed of its own, where not the preset's (with --models: 1).
    workers
        Processes that run cells.
    draws
        Bootstrap draws of each interval of the published table.
    seed
        Of the draws.
    """
    if published:
        published_study(out, draws=draws, seed=seed)
        return
    changed = {"steps": steps, "examples": examples or None, "seeds": trainings and tuple(range(trainings))}
    changed = {name: value for name, value in changed.items() if value is not None}
    if not models:
        if data is not None:
            raise SystemExit("--data teaches the models of --models: name them, or leave it out")
        family_study(out, preset, changed, workers, rates, lora_rates).run(seed)
        return
    if data is None:
        raise SystemExit("--models are taught --data: name traces, such as simplescaling/s1K-1.1")
    study = hub_study(
        out, models, data, task, changed, workers,
        rates={"full": rates or (1e-5,), "lora": lora_rates or (1e-3,)}, max_new_tokens=max_new_tokens, limit=limit,
        device_batch_size=device_batch_size,
    )  # fmt: skip
    study.run(seed)


if __name__ == "__main__":
    app()
