"""Which modules reason? Delta, Merge, Freeze and Destruction, each beside as many parameters of other modules.

    python experiments/who_reasons.py --out FOLDER --preset small
    python experiments/who_reasons.py --out FOLDER --preset full --workers 2
    python experiments/who_reasons.py --out FOLDER --published
    python experiments/who_reasons.py --out FOLDER --task aime24 --fluency novel.txt \\
        --a Qwen/Qwen2.5-Math-1.5B --b deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B

Shao & Wu 2025, "Who Reasons in the Large Language Models?" (arXiv 2505.20993) conjecture that the output projection of
attention, o_proj, carries a model's reasoning, and other modules its fluent speech. They hold nothing against modules
of the same size. Here their four gadgets are run on the embedded twins (base A, reasoning B), or on any pair, so:

- Delta: how far each module's weights moved, and whether the histogram of changes has two humps that are its own;
- Merge: modules of B put into A (do they suffice?), and modules of A put back into B (are they needed?);
- Freeze: modules of a base trained alone, with embedding, unembedding and norms; what training all of it gives is a
  pair of its own, much nearer to its base than the twins are to each other;
- Destruction: modules of B zeroed, drawn anew or replaced by noise, and whole layers removed.

Sets are o_proj; q, k, v; mlp; and every single projection. Beside each stand random draws with as many parameters in
each layer: whole other modules in a random order, the last of them by random rows ("slices"), and random rows of all
("rows"). Every figure has an interval over questions of three seeds; beside accuracy stand level (I to IV) and length
of responses, and fluency, the likelihood of held-out text that needs no reasoning.

It writes `report.md`, the page that says for each pair whether o_proj carries the reasoning and how strong the evidence
is; tables as CSV (`merges`, `merge_controls`, `ends`, `trainings`, `destructions`, `delta`); how many responses are of
each level under each merge and destruction, with some to read (`levels_of_merges.json`, `levels_of_destructions.json`:
`circuitkit report FOLDER` shows them); figures as PNG and SVG;
`provenance.json`. Run again with the same `--out`, it goes on where it was stopped. `--published` needs no model: it
draws the paper's three tables with the intervals that they lack, and says what their differences can bear.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from stethoscope.plans import PRESETS, Plan, but, hub_plan
from stethoscope.published import published_study
from stethoscope.report import study
from stethoscope.study import Running

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


@app.default
def main(
    *,
    out: Path,
    published: Annotated[bool, Parameter(negative="")] = False,
    preset: Literal["small", "full"] = "small",
    a: str | None = None,
    b: str | None = None,
    task: str | None = None,
    fluency: Path | None = None,
    traces: str | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    controls: int | None = None,
    temperature: float = 0.6,
    max_new_tokens: int | None = 16_384,
    limit: int | None = None,
    questions: int | None = None,
    dtype: str | None = None,
    device_map: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Find out which modules of a pair of models carry its reasoning.

    Parameters
    ----------
    out
        Folder for the page, tables, figures and provenance, and for what is gone on with.
    published
        The paper's tables alone, without any model.
    preset
        How much is run on the embedded twins: "small" takes some minutes and shows how it goes; "full" is the study.
    a
        The base of a pair of your own: a hub id or folder; with --b.
    b
        Its reasoning twin, of the same architecture.
    task
        What the pair is asked, by name or path, as in `circuitkit eval`; "aime24" is asked with the paper's prompt. An
        embedded pair is asked deductions if it is not given.
    fluency
        A text file that needs no reasoning, such as a novel, for the fluency; with --task.
    traces
        Reasoning traces that A is trained on for Freeze: a data set of the hub such as simplescaling/s1K-1.1, or a
        file; Freeze is left out if not given. With --task.
    seeds
        At least three: of questions and fillings, or, where a task's questions are fixed, of the tokens that are drawn.
    controls
        Draws of as many other parameters for o_proj, and a fifth of that for the other sets; the preset's if not given.
        With fewer than 180 the page cannot say yes: p is 1 / (1 + draws) at the least, and corrected over nine sets.
    temperature
        Of answers to --task, above 0.
    max_new_tokens
        Where a response to --task is broken off.
    limit
        The first questions of --task alone.
    questions
        Deductions of each rule and seed, where not the preset's.
    dtype, device_map
        How models are loaded, such as bfloat16 and cuda.
    workers
        Processes that run cells.
    progress
        Show bars.
    """
    if published:
        published_study(out)
        return
    started = time.monotonic()
    asking = {"temperature": temperature, "max_new_tokens": max_new_tokens, "limit": limit}
    loading = {name: value for name, value in (("dtype", dtype), ("device_map", device_map)) if value is not None}
    plan = but(_plan(preset, a, b, task, fluency, traces, asking), seeds, controls, questions, loading)
    study(plan, Running(out, workers, progress), started)


def _plan(
    preset: str,
    a: str | None,
    b: str | None,
    task: str | None,
    fluency: Path | None,
    traces: str | None,
    asking: Mapping[str, Any],
) -> Plan:
    """The preset's plan, or that of a pair of one's own."""
    if (a is None) != (b is None):
        raise SystemExit("--a and --b are a pair: name both, or neither for the embedded twins")
    if task is None and (fluency is not None or traces is not None):
        raise SystemExit("--fluency and --traces go with --task: deductions have texts of their own")
    if task is not None and (a is None or fluency is None):
        raise SystemExit("--task is asked of a pair (--a, --b), and needs --fluency, a text that needs no reasoning")
    if a is None or b is None:
        return PRESETS[preset]
    return hub_plan(a, b, task, fluency, traces, asking)


if __name__ == "__main__":
    app()
