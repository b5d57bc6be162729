"""Is there a size from which models reason? Accuracy, failures and attention against the number of parameters.

Without anything else, the embedded `deductor` family proves held-out PrOntoQA-OOD questions of one to five hops, and
its threshold in hops and size is looked for; that takes some minutes on a CPU. Run again with the same `--out`, it goes
on where it was stopped.

    python experiments/thresholds.py --out FOLDER
    python experiments/thresholds.py --out FOLDER --published
    python experiments/thresholds.py --out FOLDER --models openai-community/gpt2 google/gemma-2-2b-it \\
        --tasks csqa prontoqa --shots 8 --equal-shots --decoding paper clean

`--published` needs no model: it puts the tables of Hsiao & Dutta 2025 (arXiv 2502.15120) through the same search, draws
its figures, and judges the released answers again where CIRCUITKIT_DATA names a folder that has them.

The paper's 23 models, as `--models` takes them:

    openai-community/gpt2 openai-community/gpt2-medium openai-community/gpt2-large openai-community/gpt2-xl
    HuggingFaceTB/SmolLM2-135M HuggingFaceTB/SmolLM2-135M-Instruct HuggingFaceTB/SmolLM2-360M
    HuggingFaceTB/SmolLM2-360M-Instruct HuggingFaceTB/SmolLM2-1.7B HuggingFaceTB/SmolLM2-1.7B-Instruct
    apple/OpenELM-270M apple/OpenELM-270M-Instruct apple/OpenELM-450M apple/OpenELM-450M-Instruct
    apple/OpenELM-1_1B apple/OpenELM-1_1B-Instruct apple/OpenELM-3B apple/OpenELM-3B-Instruct
    TinyLlama/TinyLlama_v1.1 stabilityai/stablelm-2-1_6b stabilityai/stablelm-2-zephyr-1_6b
    google/gemma-2-2b-it google/gemma-2-9b-it

What is written: `accuracy.csv` (a row a model, task and decoding), `thresholds.csv` (a row a task, over all models and
in each family of four sizes or more: verdict, breakpoint, interval), `attention.csv`, `right_against_wrong.csv`,
`sentences.md`, every fit as JSON, figures as PNG and SVG, `provenance.json`, and each response under `evaluations/`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cyclopts
import pandas as pd
import threshold_answer
import threshold_figures as figures
from published_thresholds import published_study
from scipy import stats
from tqdm import tqdm

import circuitkit as ck
from circuitkit import plots, statistics
from circuitkit.evaluation import Evaluation
from circuitkit.records import provenance
from circuitkit.tasks.exemplars import equal_shots
from circuitkit.thresholds.models import LEAST_SIZES
from circuitkit.writing import write_json, write_table, write_text

app = cyclopts.App(help=__doc__, help_format="plaintext", default_parameter=cyclopts.Parameter(consume_multiple=True))

DEDUCTORS = tuple(
    f"deductor-{size}{stage}" for size in ("5k", "20k", "60k", "130k", "400k", "1m") for stage in ("-base", "-reason")
)
HELD_OUT_SEED = 7
"""The seed of the questions that the embedded models were not trained on."""
HOPS = range(1, 6)
_PAIRED = ["model", "rule", "hops", "n_right", "n_wrong", "right", "wrong", "above", "p", "p_corrected"]


@dataclass(frozen=True)
class Named:
    """A model to be studied, and the family whose training it shares."""

    name: str
    family: str

    @classmethod
    def of(cls, told: str) -> Named:
        """Read `NAME=FAMILY`, or a name alone, whose family is what comes before its size.

        >>> Named.of("HuggingFaceTB/SmolLM2-135M-Instruct").family, Named.of("deductor-5k-base").family
        ('SmolLM2', 'deductor-base')
        """
        name, _, family = told.partition("=")
        if not family:
            last = name.rstrip("/").split("/")[-1]
            family = re.split(r"[-_](?=\d)|[-_](?:medium|large|xl|zephyr)\b", last)[0]
            if last.startswith("deductor-"):
                family = "deductor-base" if last.endswith("-base") else "deductor-reason"
        return cls(name, family)

    @property
    def folder(self) -> str:
        """Its name as a folder's."""
        return re.sub(r"[^\w.-]+", "--", self.name)


def asked(names: Sequence[str], n: int, shots: int, seed: int) -> list[ck.tasks.Task]:
    """The tasks; `prontoqa` alone is all of its rules, each with all of its numbers of hops."""
    tasks = []
    for name in names:
        if name == "prontoqa":
            rules = ck.tasks.prontoqa
            tasks += [
                rules.task(rule, hops=1 if rule in rules.ONE_HOP_RULES else list(HOPS), shots=shots, n=n, seed=seed)
                for rule in rules.RULES
            ]
        elif name.startswith("prontoqa/"):
            tasks.append(ck.tasks.load(name, shots=shots, n=n, seed=seed))
        else:
            tasks.append(ck.tasks.load(name).first(n))
    return tasks


def attention_of(model: ck.Model, task: ck.tasks.Task, answers: Evaluation, path: Path) -> pd.DataFrame:
    """Each proof's attention score of its gold tokens (last layer), beside whether the model proved it."""
    if path.is_file():
        scores = ck.attention.GoldScores.load(path)
    else:
        prompts = [task.prompt(item, answers.shots) for item in answers.items]
        golds = [item.gold for item in answers.items]
        scores = ck.attention.gold_scores(model, prompts, golds, layers=model.n_layers - 1, progress=False)
        scores.save(path)
    return answers.frame[["key", "rule", "hops", answers.judges[0]]].assign(
        score=scores.values[:, -1].nanmean(-1).tolist()
    )


def right_against_wrong(proofs: pd.DataFrame) -> pd.DataFrame:
    """Within each model and task, whether proofs that are right have higher scores (Mann–Whitney, Holm over all)."""
    rows = []
    for (model, rule, hops), part in proofs.groupby(["model", "rule", "hops"], sort=False):
        right, wrong = (part.loc[part["headline"] == value, "score"] for value in (True, False))
        row = {"model": model, "rule": rule, "hops": hops, "n_right": len(right), "n_wrong": len(wrong)}
        if min(len(right), len(wrong)) >= 5:
            test = stats.mannwhitneyu(right, wrong)
            row |= {"right": right.mean(), "wrong": wrong.mean(), "p": test.pvalue}
            # The chance that a right proof scores above a wrong one.
            row["above"] = test.statistic / (len(right) * len(wrong))
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=_PAIRED)
    return table.assign(p_corrected=statistics.holm(table["p"]))


def fitting_all(models: Sequence[Named], tasks: Sequence[ck.tasks.Task]) -> dict[str, int]:
    """How many exemplars of each task fit the context of every model; one model is in memory at a time."""
    fewest = {task.name: task.shots for task in tasks}
    for named in models:
        model = ck.load(named.name)
        fewest = {task.name: min(fewest[task.name], equal_shots(task, [model])) for task in tasks}
    return fewest


def evaluate_all(
    models: Sequence[Named],
    tasks: Sequence[ck.tasks.Task],
    decodings: Sequence[str],
    out: Path,
    *,
    attention: bool,
    same_shots: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let every model answer every task; give the counts, and the attention scores of proofs."""
    shots: dict[str, int | None] = dict.fromkeys((task.name for task in tasks), None)
    if same_shots:
        shots |= fitting_all(models, tasks)
    counted, scored = [], []
    for named in tqdm(models, desc="models"):
        model = ck.load(named.name)
        parameters = sum(weight.numel() for weight in model.hf.parameters())
        for task in tasks:
            for decoding in decodings:
                folder = out / "evaluations" / task.name.replace("/", "-") / decoding / named.folder
                answers = ck.evaluate(
                    model, task, decoding=decoding, shots=shots[task.name], out=folder, progress=False
                )
                by = [group for group in ("rule", "hops") if group in answers.groups]
                counted.append(ck.thresholds.rows_of(answers, family=named.family, parameters=parameters, by=by))
                if attention and decoding == decodings[0] and len(by) == 2:
                    path = folder / f"gold_scores_{len(answers.items)}_{answers.shots}.safetensors"
                    of_model = {"model": answers.model, "family": named.family, "parameters": parameters}
                    scored.append(attention_of(model, task, answers, path).assign(**of_model))
    return pd.concat(counted, ignore_index=True), pd.concat(scored, ignore_index=True) if scored else pd.DataFrame()


def judged(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Give each row its interval, its failures, and its test against its task's chance, corrected within the task."""
    parts = []
    for _, part in accuracy.groupby(["task", "decoding"], sort=False):
        chance = part["chance"].iloc[0]
        parts.append(ck.thresholds.judge_models(part, chance=None if pd.isna(chance) else float(chance)))
    return pd.concat(parts).sort_index()


def label(keys: Sequence[object]) -> str:
    """What a part of the table is called: its task or rule and hops, and its decoding."""
    # Hops are floats where another task of the table has none.
    return ", ".join(f"{key:.0f} hop{'s' * (key > 1)}" if isinstance(key, int | float) else str(key) for key in keys)


def with_families(parts: Iterable[tuple[str, pd.DataFrame]]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each part with its name: all of its models, and each family alone that has sizes enough for a search."""
    for named, part in parts:
        yield named, "all", part
        families = list(part.groupby("family", sort=False))
        for family, rows in families if len(families) > 1 else ():
            if rows["parameters"].nunique() >= LEAST_SIZES:
                yield f"{named}, {family} alone", str(family), rows


def fit_all(accuracy: pd.DataFrame, draws: int, seed: int, out: Path) -> tuple[pd.DataFrame, list[str]]:
    """Look for a threshold in every task, rule and number of hops, and there in every family; a table and sentences."""
    by = [name for name in ("rule", "hops", "decoding") if name in accuracy]
    accuracy = accuracy.assign(rule=accuracy["rule"].fillna(accuracy["task"])) if "rule" in accuracy else accuracy
    rows, said = [], []
    parts = accuracy.groupby(by if "rule" in by else ["task", *by], sort=False, dropna=False)
    named_parts = ((label([key for key in keys if not pd.isna(key)]), part) for keys, part in parts)
    for named, family, part in tqdm(list(with_families(named_parts)), desc="fits"):
        chance = part["chance"].iloc[0]
        try:
            found = ck.thresholds.find(
                part.reset_index(drop=True),
                task=named,
                chance=None if pd.isna(chance) else float(chance),
                draws=draws,
                seed=seed,
                progress=False,
            )
        except ck.thresholds.ThresholdError as error:
            said += [f"## {named}", f"- {error}"]
            continue
        low, high = found.interval
        stem = re.sub(r"\W+", "_", named)
        found.save(out / "fits" / f"{stem}.json")
        plots.save(found.plot(), out / "figures" / f"fit_{stem}.png")
        row = {"task": named, "family": family, "verdict": found.verdict, "curve": found.best["curve"], "p": found.p}
        rows.append(
            row
            | {"p_trend": found.p_trend}
            | {"breakpoint": found.breakpoint, "low": low, "high": high, "gain": found.gain[0]}
        )
        said += [f"## {named}", *(f"- {sentence}" for sentence in found.sentences())]
    if not rows:
        return pd.DataFrame(rows), said
    fits = threshold_answer.corrected(pd.DataFrame(rows))
    return fits, [f"- {threshold_answer.answer(fits, draws=draws)}", *said]


@app.default
def main(
    *,
    out: Path,
    published: bool = False,
    models: list[str] | None = None,
    tasks: list[str] | None = None,
    n: int = 100,
    shots: int = 0,
    equal_shots: bool = False,
    decoding: list[str] | None = None,
    attention: bool = True,
    draws: int = 500,
    seed: int = HELD_OUT_SEED,
) -> None:
    """Measure models on tasks, and look for a threshold in their size.

    Parameters
    ----------
    out
        Folder for tables, fits, figures and responses; run again with the same one, the study goes on.
    published
        Put the paper's tables through the search instead, and judge the released answers again.
    models
        Embedded names, folders or hub ids; NAME=FAMILY says which family a model is of. If not given, all
        embedded sizes.
    tasks
        Names or files of tasks; "prontoqa", all six rules with all their hops, is what is asked if none is
        given.
    n
        Questions for each task, rule and number of hops.
    shots
        Exemplars before each PrOntoQA question; as many of them as fit a model's context are given. The embedded models
        need none.
    equal_shots
        Give all models as many exemplars as fit the one with the smallest context.
    decoding
        Ways of decoding, side by side: clean, paper. Clean alone if none is given.
    attention
        Score the attention to gold tokens too, where the task has proofs.
    draws
        Of each test and bootstrap; 2000 for a paper.
    seed
        Of questions and draws. The embedded models were trained on others than those of 7.
    """
    if published:
        published_study(out, draws=draws, seed=seed)
        return
    chosen = [Named.of(told) for told in models or DEDUCTORS]
    questions = asked(tasks or ["prontoqa"], n, shots, seed)
    ways = decoding or ["clean"]
    accuracy, proofs = evaluate_all(chosen, questions, ways, out, attention=attention, same_shots=equal_shots)
    accuracy["chance"] = accuracy["task"].map({task.name: task.chance for task in questions}).astype(float)
    write_table(out / "accuracy.csv", judged(accuracy))
    thresholds, said = fit_all(accuracy, draws, seed, out)
    write_table(out / "thresholds.csv", thresholds)
    write_text(out / "sentences.md", "\n".join(said) + "\n")
    figures.overview(accuracy, out / "figures")
    figures.failures(accuracy, out / "figures")
    if len(proofs):
        within = right_against_wrong(proofs)
        by_model = proofs.groupby(["model", "family", "parameters", "rule", "hops"], sort=False, as_index=False)
        scores = by_model.agg(score=("score", "mean"), accuracy=("headline", "mean"), n=("score", "size"))
        write_table(out / "attention.csv", scores)
        write_table(out / "right_against_wrong.csv", within)
        figures.attention(scores, within, out / "figures")
    names = ", ".join(each.name for each in chosen)
    told = provenance(
        model_name=names,
        seed=seed,
        tasks=[task.name for task in questions],
        n=n,
        shots=shots,
        decoding=ways,
        draws=draws,
    )
    write_json(out / "provenance.json", told)
    print("\n".join(said))


if __name__ == "__main__":
    app()
