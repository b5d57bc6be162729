"""Folders of every kind of study of the embedded models, each as small as its command makes it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from shell import status

MODEL = "deductor-5k"
TWINS = ("deductor-20k-base", "deductor-20k-reason")
TASK = ("--task", "prontoqa/implication_elimination/1", "--shots", "0")
RULES = ("--span", "rules=role:rule", "--span", "last=at:-1")
PROMPT = "Every wumpus is a dumpus. Every dumpus is a lorpus. Fae is a wumpus. Fae is a"
CIRCUIT = ("--n", "4", "--top", "20", "--resamples", "5", "--controls", "3")

VERBS: Mapping[str, Sequence[Sequence[str]]] = {
    "demo": [["demo", MODEL, "--n", "12"]],
    "patch": [["patch", MODEL, "--n", "6", "--over", over, "--out", over] for over in ("resid_pre", "z")],
    "patch sets": [["patch", MODEL, "--n", "6", "--set", "a=z.0.0+z.0.1", "--set", "b=z.1.0"]],
    "patch paths": [["patch", "paths", MODEL, "--n", "4", "--from", "embed", "z", "mlp", "--to", "logits"]],
    "patch edges": [["patch", "edges", MODEL, "--n", "4", *RULES]],
    "patch generate": [
        ["patch", "generate", "deductor-20k", PROMPT, "--span", "rule=Every wumpus is a dumpus", "--keys", "rule"]
    ],
    "patch trace": [["patch", "trace", MODEL, "--n", "4", "--subject", "role:fact"]],
    "patch attention": [
        ["patch", "freeze", MODEL, "--n", "4", "--out", "freeze"],
        ["patch", "transplant", MODEL, "--n", "4", *RULES, "--out", "transplant"],
    ],
    "ablate": [
        ["ablate", "effects", MODEL, "--n", "6", "--out", "effects"],
        ["ablate", "grow", MODEL, "--n", "6", "--size", "2", "--out", "grow"],
        ["ablate", "sets", MODEL, "--n", "6", "--set", "early=0.0,0.1", "--set", "late=1.0", "--out", "sets"],
        ["ablate", "neurons", MODEL, "--n", "6", "--layers", "0", "--out", "neurons"],
    ],
    "attention": [["attention", "deductor-20k", PROMPT, "--all-layers"]],
    "attention scores": [["attention", "scores", "deductor-20k", PROMPT, "--all-layers"]],
    "attention gold": [["attention", "gold", "deductor-20k", "--rule", "implication_elimination", "--n", "4"]],
    "attention profile": [["attention", "profile", "deductor-20k", PROMPT]],
    "circuit find": [["circuit", "find", MODEL, *CIRCUIT]],
    "circuit evaluate": [
        ["circuit", "find", MODEL, *CIRCUIT, "--out", "found"],
        ["circuit", "evaluate", MODEL, "found/graph.safetensors", "--n", "4", "--seed", "1", "--out", "evaluated"],
    ],
    "circuit compare": [["circuit", "compare", f"{MODEL}-base", MODEL, "--n", "4", "--top", "20", "--resamples", "5"]],
    "sfn delta": [["sfn", "delta", *TWINS]],
    "sfn merge": [["sfn", "merge", *TWINS, "--modules", "o_proj"]],
    "sfn destroy": [["sfn", "destroy", TWINS[1], "--modules", "o_proj", "--how", "zero"]],
    "eval": [
        ["eval", MODEL, *TASK, "--limit", "6", "--out", "5k"],
        ["eval", "deductor-130k", *TASK, "--limit", "6", "--out", "130k"],
    ],
    "train": [["train", f"{MODEL}-base", *TASK[:2], "--limit", "16", "--max-steps", "4", "--evaluate-every", "2"]],
    "sweep": [["sweep", "run", "heads.toml"]],
}
"""Commands by the study's name. Where there are several, each writes into a folder of its own in the study's."""

SWEEP = """
study = "ablation.sweep"
[parameters]
task = "deductions"
n = 6
[grid]
model = ["deductor-5k"]
how = ["zero", "mean"]
seed = [0, 1]
"""


def make(name: str, within: Path) -> Path:
    """The folder that the commands of `name` write, run in `within`."""
    place = within / name
    place.mkdir()
    (place / "heads.toml").write_text(SWEEP)
    for words in VERBS[name]:
        told = words if "--out" in words else [*words, "--out", "out"]
        with mock.patch.object(sys, "argv", ["circuitkit", *told]), contextlib.chdir(place):
            assert status(*told) == 0
    (place / "heads.toml").unlink()
    return place if len(VERBS[name]) > 1 else place / "out"
