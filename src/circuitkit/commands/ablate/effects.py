"""`circuitkit ablate effects`: the total effect of each head beside its direct one."""

from __future__ import annotations

from pathlib import Path

from circuitkit.commands.ablate.options import Prompt, Way, heads_of, read
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, Words, metric_of
from circuitkit.commands.prompts import PairsFrom

_SHOWN = ["layer", "head", "total", "total_p_corrected", "direct", "direct_p_corrected", "repaired"]


def effects(
    model: str,
    *,
    heads: Words = None,
    way: Way | None = None,
    metric: MetricName | None = None,
    prompt: Prompt = None,
    prompts: PairsFrom | None = None,
    out: Path = Path("effects"),
    load_as: LoadAs | None = None,
) -> None:
    """Ablate one head at a time, with later components reacting (total) and with all of them held still (direct).

    Other heads take over when one is removed, so a small total effect may hide a large direct one; what they make good
    is called repaired.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    heads
        Which heads, as layer.head, such as 2.1 2.3; all if not given.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    prompt
        A prompt to read instead of pairs, whose answer is then the model's own likeliest next token; may be repeated.
    out
        Folder for both results (total.safetensors, direct.safetensors), their table (CSV), figure (PNG, SVG) and
        provenance (JSON).
    """
    from dataclasses import replace

    from circuitkit import ablation, plots
    from circuitkit.commands.telling import tell_study
    from circuitkit.writing import write_study

    chosen = prompts or PairsFrom()
    settings = (way or Way()).settings()
    named = heads_of(heads)
    loaded, texts = read(model, load_as, chosen, prompt)
    measured = None if metric is None else metric_of(metric, loaded)
    both = ablation.effects(loaded, texts, named, metric=measured, seed=chosen.seed, **settings)
    results = {"total": both.total, "direct": both.direct}
    table = both.frame
    write_study(out, "effects", results, table, plots.total_and_direct(both), texts)
    strongest = table[["total", "direct"]].abs().max(axis=1).nlargest(10).index
    told = replace(both.total, title=f"Total and direct effects of heads ({settings['how']}), {loaded.name}")
    tell_study(told, table.loc[strongest, _SHOWN], list(results.values()), out)
