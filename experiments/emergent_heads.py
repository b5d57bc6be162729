"""Which heads emerge in post-training, how sure is that, and what do they do? Thinking Sparks with error bars.

    python experiments/emergent_heads.py --out FOLDER --preset small
    python experiments/emergent_heads.py --out FOLDER --preset full --workers 2
    python experiments/emergent_heads.py --out FOLDER --published
    python experiments/emergent_heads.py --out FOLDER --pair qwen-1.5b --task aime24 --device-map cuda --dtype bfloat16
    python experiments/emergent_heads.py --out FOLDER --base NAME --post NAME --task gsm8k --limit 100

"Thinking Sparks!" (arXiv 2509.25758) cuts a circuit out of a base model and another out of what post-training made of
it, calls heads emergent that are in the second alone, and ablates and scales them while the model answers. It gives no
error bars and no control. Here the same is done on the embedded twins and the checkpoints between them, or on any pair:

- circuits by three recipes: "published" (the paper's prompts, 100 steps, the top 5,000 edges and a threshold of 0.1),
  "openings" (the same prompts, the same share of edges in each model) and "step" (the same deductions for both);
- emergent, retained and lost heads, with resamples of the problems, beside what noise alone makes emerge;
- importances before and after, complexity, cohorts over checkpoints, overlaps beside exact chance, and what heads of
  one model do in the other;
- these heads zeroed, set to their mean, halved and raised by 1.3 while the model writes, beside random heads of the
  same layers, and how its answers then fail, by difficulty.

It writes `report.md`, the page that says what was found; tables as CSV; figures as PNG and SVG; graphs and results that
load again (`graphs`, `changes`, `effects`); `provenance.json`. Run again with the same `--out`, it goes on where it was
stopped. `--published` needs no model: it draws the paper's tables with the intervals that they lack.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from emergence.fitting import fitting
from emergence.plans import PRESETS, Plan, hub_plan, hub_twins
from emergence.published import published_study
from emergence.report import study
from emergence.study import Running

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=Parameter(consume_multiple=True))


@app.default
def main(
    *,
    out: Path,
    published: Annotated[bool, Parameter(negative="")] = False,
    preset: Literal["quick", "small", "full"] = "small",
    pair: Literal["qwen-1.5b", "qwen-7b", "qwen3-8b", "llama-1b"] | None = None,
    base: str | None = None,
    post: str | None = None,
    task: str = "aime24",
    limit: int | None = None,
    samples: int = 4,
    max_new_tokens: int | None = None,
    chat: bool = True,
    recipes: tuple[str, ...] = (),
    opening_tokens: int | None = None,
    controls: int | None = None,
    seed: int = 0,
    dtype: str | None = None,
    device_map: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Find the heads that emerge between a base and a post-trained model, and change them.

    Parameters
    ----------
    out
        Folder for the page, tables, figures and results, and for what is gone on with.
    published
        The paper's tables alone, without any model.
    preset
        How much is run on the embedded twins: "quick" is a test of a minute; "small" takes some minutes; "full" is the
        study.
    pair
        One of the paper's pairs, instead of the embedded twins: Qwen2.5-Math-1.5B or 7B and their R1 distillations,
        Qwen3-8B with thinking off and on, or Llama-3.2-1B-Instruct and your own training of it (--post).
    base
        The base of a pair of your own: a hub id or folder; with --post. With --pair, another model in its place.
    post
        What post-training made of it, of the same architecture and vocabulary.
    task
        What a pair of the hub is asked, by name or path, as in `circuitkit eval`.
    limit
        The first questions of --task alone.
    samples
        Answers to each question of --task, drawn at temperature 0.6; two or more tell how hard a question is.
    max_new_tokens
        Where an answer to --task is broken off; the paper's 32,768 if not given.
    chat
        Ask --task through the chat template; --no-chat asks it as plain text, as models without one need.
    recipes
        Of "step", "openings" and "published", those that are run; all if not given. "step" needs tokenizers that have
        its words as single tokens: where it is not named, it is left out without these, and the page says so.
    opening_tokens
        How many tokens of each model's own answer stand in the prompts of "openings" and "published".
    controls
        Random sets beside each set of heads; the preset's if not given.
    seed
        Of prompts, resamples and random sets.
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
    asking: dict[str, Any] = {"limit": limit, "samples": samples, "chat": chat}
    asking |= {} if max_new_tokens is None else {"max_new_tokens": max_new_tokens}
    plan = _plan(preset, pair, base, post, task, asking)
    plan = plan.of(recipes) if recipes else plan
    changed: dict[str, Any] = {"opening": opening_tokens, "controls": controls}
    loading = {name: value for name, value in (("dtype", dtype), ("device_map", device_map)) if value is not None}
    changed = {name: value for name, value in changed.items() if value is not None}
    plan = replace(plan, seed=seed, loading=loading, **changed)
    study(fitting(plan, chosen=bool(recipes)), Running(out, workers, progress), started)


def _plan(preset: str, pair: str | None, base: str | None, post: str | None, task: str, asking: dict[str, Any]) -> Plan:
    """The preset's plan, one of the paper's pairs, or that of a pair of one's own."""
    if pair is None and base is None and post is None:
        return PRESETS[preset]
    twins, more = hub_twins(pair, base, post)
    return hub_plan(twins, task, **{**more, **asking})


if __name__ == "__main__":
    app()
