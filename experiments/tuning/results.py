"""What `finetuning.py` found, put together: tables, the figures of them, and what they say."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from reports import listed

from tuning import figures, findings, newlines, tables
from tuning.plans import Plan
from tuning.study import Start
from tuning.texts import Data

_UNSHOWN = ["curve", "weights", "last_weights"]
"""What a training's row has that no table shows."""


@dataclass(frozen=True)
class Results:
    """What a study found.

    Attributes:
        tables, figures: by the names of their files.
        sentences: what they say, by heading.
    """

    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]
    sentences: dict[str, list[str]]

    def __or__(self, more: Results) -> Results:
        return Results(self.tables | more.tables, self.figures | more.figures, self.sentences | more.sentences)

    @property
    def text(self) -> str:
        """The sentences in Markdown."""
        return "".join(f"## {title}\n\n{listed(said)}\n" for title, said in self.sentences.items())


def of_trainings(plan: Plan, begun: Mapping[str, Start], trained: pd.DataFrame, answers: pd.DataFrame) -> Results:
    """What trainings and answers show, but for trainings in stages."""
    seed = plan.seeds[0]
    found = {
        "trainings": trained.drop(columns=_UNSHOWN),
        "accuracy": tables.accuracy_table(answers),
        "confound": tables.confound_table(answers, seed),
        "degraded": tables.degraded_table(answers),
        "separators": separators(begun),
        "memorising": tables.memorising_table(answers),
    }
    drawn = {
        "before_after": figures.before_after(found["accuracy"]),
        "confound": figures.confound(found["confound"]),
        "decodings": figures.decodings(found["confound"]),
        "losses": losses(trained, seed),
        "memorising": figures.memorising(found["memorising"]),
    }
    said = {
        "Data": findings.said_of_data(trained),
        "What fine-tuning makes better and worse": findings.said_of_degraded(found["degraded"]),
        "Decoding, separator and judge": findings.said_of_confound(found["confound"]),
        "Remembering": findings.said_of_memorising(found["memorising"]),
    }
    if plan.transfer:
        found["transfer"] = tables.transfer_table(answers)
        drawn["transfer"] = figures.transfer(found["transfer"])
        said["Rules left out"] = findings.said_of_transfer(found["transfer"])
    return Results(found, drawn, said)


def of_stages(plan: Plan, trained: pd.DataFrame, answers: pd.DataFrame) -> Results:
    """What trainings in stages and by GRPO show: the trainings, and the answers of each way's end."""
    stages = findings.stages_table(answers)
    contrasts = findings.contrasts_table(stages)
    found = {"stage_trainings": trained.drop(columns=_UNSHOWN), "stages": stages, "contrasts": contrasts}
    drawn = {f"stages_{Path(name).name}": figures.stages(stages, name) for name in plan.staged}
    return Results(found, drawn, {"Stages and GRPO": findings.said_of_stages(contrasts)})


def losses(trained: pd.DataFrame, seed: int) -> Figure:
    """The loss curves of the trainings on all rules."""
    rows = trained[(trained["training"] == "all") & (trained["seed"] == seed)].to_dict("records")
    curves = {row["model"]: pd.read_json(io.StringIO(row["curve"]), orient="split") for row in rows}
    return figures.losses(curves, {row["model"]: int(row["chosen"]) for row in rows})


def separators(begun: Mapping[str, Start]) -> pd.DataFrame:
    """What the separators become in the models' tokenizers, and in byte-pair ones learnt here."""
    read: dict[str, Any] = {}
    for name, start in begun.items():
        # Models of one family read alike.
        if all(each.get_vocab() != start.tokenizer.get_vocab() for each in read.values()):
            read[name] = start.tokenizer
    texts = [f"Q: {each.question}\nA: {each.chain}\n\n" for each in Data(trials=20).examples]
    read["byte pairs, split as GPT-2 does"] = newlines.byte_pairs(texts)
    read["byte pairs, split as Llama 3 and Qwen2 do"] = newlines.byte_pairs(texts, newlines.CL100K)
    return newlines.separators_table(read)
