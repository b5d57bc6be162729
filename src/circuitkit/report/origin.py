"""Where results come from: what was asked, the settings, versions and hashes, and the command to run it again."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from circuitkit.report.contents import Contents, File
from circuitkit.report.kinds import READERS

_ELSEWHERE = {"versions", "sentences", "command", "time"}
_LONGEST = 300

_TITLES: Mapping[str, str] = {
    "demo": "The heads that carry a deduction",
    "patch": "Patching",
    "ablate": "Ablation",
    "attention": "Attention",
    "eval": "Evaluation",
    "train": "Training",
    "circuit find": "A circuit",
    "circuit evaluate": "What circuits do alone",
    "circuit compare": "Circuits compared",
    "circuit": "A circuit",
    "sfn delta": "What training moved",
    "sfn merge": "Modules merged",
    "sfn destroy": "Modules destroyed",
    "sfn": "Stethoscope for networks",
    "sweep": "A sweep",
}
"""By the words of the command, the longest that fit."""

_RUN = {"denoise": "clean activations in the corrupt run", "noise": "corrupt activations in the clean run"}

_QUESTIONS: Mapping[str, str] = {
    "cache": "What do the heads attend to?",
    "token_scores": "Which tokens does attention mark as important?",
    "gold_scores": "Does attention point to the step that a proof needs next?",
    "graph": "Which edges between heads and MLPs carry the behaviour?",
    "node_scores": "Which heads and MLPs carry the behaviour?",
    "faithfulness": "How much of the behaviour does the circuit keep, run alone?",
    "curve": "How much of the behaviour do circuits of growing size keep, beside random ones?",
    "completeness": "Does the circuit hold all that matters: do its parts matter in it as in the whole model?",
    "minimality": "Is every part of the circuit needed?",
    "stability": "Would other examples give the same circuit?",
    "head_changes": "Which heads emerged, stayed and were lost in training?",
    "head_cohorts": "When in training did which heads become active, and did they stay?",
    "generation": "What do answers lose when heads are ablated while they are written?",
    "delta": "Which modules did training move, and how?",
    "levels": "How much of language and reasoning is left in the responses?",
    "manifest": "Which tensors of the checkpoint were changed?",
    "threshold": "Is there a size from which on accuracy rises, and where?",
    "evaluation": "How often does the model answer right?",
    "harness": "How well does the model do on lm-eval's tasks?",
    "training": "What did the model learn, and which checkpoint is the best?",
    "sweep": "What does each cell of a grid of settings give?",
}


_STUDIES: Mapping[str, str] = {
    "architecture": "Is a model's weak reasoning due to its architecture, or to its data?",
    "attention_causality": "Are the tokens that a model attends to most those that its proofs need?",
    "attribution_agreement": "How well does attribution rank edges, beside every edge really patched?",
    "elicitation": "From which size do a few examples suffice to teach proofs?",
    "emergent_heads": "Which heads emerge in post-training, how sure is that, and what do they do?",
    "finetuning": "Does fine-tuning teach small models to reason, or to remember?",
    "published_thresholds": "Do the published accuracies show a size from which models reason?",
    "thresholds": "Is there a size from which models reason?",
    "training_dynamics": "Which heads appear, stay and vanish while a model learns to reason?",
    "who_reasons": "Which modules reason, beside as many parameters of other modules?",
}
"""By the name of an experiment's script."""

_LONGEST_NAME = 80


def title(contents: Contents) -> str:
    """What a folder's page is called: what was done, to which model."""
    told = origins(contents)
    words = _verb(told[0]) if told else []
    named = next((_TITLES[" ".join(words[:n])] for n in (2, 1) if " ".join(words[:n]) in _TITLES), None)
    if named is None and (script := _script(told)):
        named = script.replace("_", " ").capitalize()
    model = str(told[0].get("model") or "") if told else ""
    return f"{named or contents.name}: {model}" if 0 < len(model) <= _LONGEST_NAME else named or contents.name


def asked(contents: Contents) -> list[str]:
    """What the study asked, in sentences, by what its results are."""
    script = _script(origins(contents))
    questions: dict[str, None] = dict.fromkeys([_STUDIES[script]] if script in _STUDIES else [])
    for part in contents.walk():
        for file in part.files:
            if file.kind == "result":
                questions[_asked_of(file.value)] = None
            elif file.kind in _QUESTIONS:
                questions[_QUESTIONS[file.kind]] = None
    return list(questions)


def _asked_of(result: Any) -> str:
    axes = " and ".join([", ".join(result.axes[:-1]), result.axes[-1]] if len(result.axes) > 1 else result.axes)
    metric = result.metric.replace("_", " ")
    if result.direction == "ablate":
        return f"How much of the {metric} is lost without each {axes}?"
    return f"Which {axes} moves the {metric}, with {_RUN[result.direction]}?"


def origins(contents: Contents) -> list[Mapping[str, Any]]:
    """The provenances of a folder: one, or those that one file tells of several results."""
    told = contents.provenance
    if not told:
        return []
    if "command" in told:
        return [told]
    return [{"of": name, **each} for name, each in told.items() if isinstance(each, Mapping) and "command" in each]


def settings(contents: Contents) -> list[tuple[str, str]]:
    """Every setting that provenance tells, by a dotted name, those of runs within it too."""
    found: dict[tuple[str, str], None] = {}
    for each in origins(contents):
        for name, value in _flat(each):
            found[(name, value)] = None
    return list(found)


def _flat(told: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in told.items():
        if name in _ELSEWHERE or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
            continue
        if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value):
                yield from _flat(each, f"{before}{name}." if len(value) == 1 else f"{before}{name}.{number}.")
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if text:
            yield f"{before}{name}", text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def versions(every: Sequence[Contents]) -> list[tuple[str, str]]:
    """The versions of the libraries, those of several runs one behind the other."""
    found: dict[str, dict[str, None]] = {}
    for part in (part for contents in every for part in contents.walk()):
        for each in origins(part):
            for name, version in dict(each.get("versions", {})).items():
                found.setdefault(str(name), {})[str(version)] = None
    return [(name, ", ".join(different)) for name, different in found.items()]


def commands(contents: Contents) -> list[str]:
    """The commands that made a folder's results, as a shell takes them, each once; its part's too."""
    found: dict[str, None] = {}
    for part in contents.walk():
        for each in origins(part):
            words = _words(each)
            if words:
                found[shlex.join(words)] = None
    return list(found)


def times(every: Sequence[Contents]) -> list[str]:
    """When the results were made: the first and the last minute (UTC)."""
    parts = [part for contents in every for part in contents.walk()]
    told = sorted({_minute(str(each["time"])) for part in parts for each in origins(part) if each.get("time")})
    return told[:1] + told[-1:] if len(told) > 1 else told


def _minute(told: str) -> str:
    """`2026-01-01 00:00` of a time as provenance has it, and what is no time as it is."""
    try:
        found = datetime.fromisoformat(told)
        return (found.astimezone(UTC) if found.tzinfo else found).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return told


def hashes(contents: Contents) -> Iterator[tuple[str, int, str]]:
    """Each result's file and table: its path in the folder, its size in bytes and its SHA-256."""
    for part in contents.walk():
        for file in part.files:
            if file.kind in READERS or file.kind in ("table", "provenance"):
                yield _name(contents, file), file.path.stat().st_size, _sha256(file.path)


def _name(contents: Contents, file: File) -> str:
    return file.path.relative_to(contents.folder).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _words(told: Mapping[str, Any]) -> list[str]:
    """The command's words, the program by its name and not by where it was installed."""
    try:
        words = shlex.split(str(told.get("command", "")))
    except ValueError:
        return [str(told["command"])]
    if words and PurePath(words[0]).name in ("circuitkit", "cli.py"):
        words[0] = "circuitkit"
    elif words and words[0].endswith(".py"):
        words = ["python", *words]
    return words


def _script(told: Sequence[Mapping[str, Any]]) -> str:
    """The name of the experiment's script; empty where it was none."""
    script = next((word for word in _verb(told[0])[:1] if word.endswith(".py")), "") if told else ""
    return PurePath(script).stem


def _verb(told: Mapping[str, Any]) -> list[str]:
    """The words that say what was done: a verb and what comes behind it, or a script."""
    return _words(told)[1:3]
