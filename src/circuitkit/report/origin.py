"""Where results come from: what was asked, the settings, versions and hashes, and the command to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from circuitkit.report.contents import Contents, File
from circuitkit.report.kinds import READERS

_ELSEWHERE = {"versions", "sentences", "command", "time"}
_LONGEST = 300

_TITLES: Mapping[str, str] = {
    "demo": "The heads that carry a deduction",
    "patch": "Patching",
    "patch paths": "Paths patched",
    "patch edges": "Attention cut between spans",
    "patch trace": "Causal tracing",
    "patch generate": "What is written on under a change",
    "patch freeze": "Attention held",
    "patch transplant": "Attention transplanted",
    "ablate": "Ablation",
    "attention": "Attention",
    "attention scores": "Scores of attention",
    "attention gold": "Attention on gold proofs",
    "attention profile": "Attention by part of speech",
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
    "attention": "What do the heads attend to?",
    "generated": "Does the model write on otherwise under the change?",
    "level_table": "How much of language and reasoning is left in the responses, condition by condition?",
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


_OF_VERBS: Mapping[str, str] = {
    "demo": "Which heads carry a deduction, and which tokens do they read?",
    "attention profile": "On which parts of speech do the heads put their attention, and how widely is it spread?",
}
"""By the words of the command, where its files alone do not say it."""

_CELLS: Mapping[tuple[str, ...], str] = {
    ("layer", "head"): "head",
    ("layer", "neuron"): "neuron",
    ("sender", "receiver"): "path from a sender to a receiver",
    ("query", "key"): "attention from one span to another",
    ("size",): "set of a growing number of heads",
}
"""What a cell is, by the axes that name it; of other axes, what they are called."""

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
_MOST_MODELS = 3

_NO_COMMANDS = frozenset(
    {"", "-", "-c", "-m", "pytest", "ipython", "jupyter", "sphinx-build"}
    | {"ipykernel_launcher.py", "colab_kernel_launcher.py"}
)
"""Programs that only hold what made a result: called again, they would not make it."""


def title(contents: Contents) -> str:
    """What a folder's page is called: what was done, to which model; that of its parts where they all did the same."""
    told = origins(contents) or [each for part in contents.walk() for each in origins(part)[:1]]
    names = list(dict.fromkeys(_named(each) for each in told))
    if len(names) > 1:
        # Several studies of one verb have its name.
        names = list(dict.fromkeys(_TITLES.get(_verb(each)[0] if _verb(each) else "", "") for each in told))
    named = names[0] if len(names) == 1 and names[0] else contents.name
    models = [model for model in dict.fromkeys(str(each.get("model") or "") for each in told) if model]
    if len(models) > _MOST_MODELS:
        return f"{named}: {len(models)} models"
    of = ", ".join(models)
    return f"{named}: {of}" if 0 < len(of) <= _LONGEST_NAME else named


def _named(told: Mapping[str, Any]) -> str:
    """What one provenance's study is called; empty where its command does not say."""
    words = _verb(told)
    named = next((_TITLES[" ".join(words[:n])] for n in (2, 1) if " ".join(words[:n]) in _TITLES), "")
    return named or _script(told).replace("_", " ").capitalize()


def asked(contents: Contents) -> list[str]:
    """What the study asked, in sentences, by what its results are."""
    told = origins(contents)
    script, verb = (_script(told[0]), " ".join(_verb(told[0]))) if told else ("", "")
    if script in _STUDIES:
        # What its trainings, evaluations and cells were asked each is but a step on the way.
        return [_STUDIES[script]]
    first = next((each for words, each in _OF_VERBS.items() if verb.startswith(words)), None)
    questions: dict[str, None] = {first: None} if first else {}
    for part in contents.walk():
        for file in part.files:
            if file.kind == "result":
                questions[_asked_of(file.value)] = None
            elif file.kind in _QUESTIONS:
                questions[_QUESTIONS[file.kind]] = None
    return list(questions)


def _asked_of(result: Any) -> str:
    *others, last = result.axes
    cell = _CELLS.get(result.axes, f"{', '.join(others)} and {last}" if others else last)
    metric = result.metric.replace("_", " ")
    if result.direction == "ablate":
        return f"How much of the {metric} is lost without each {cell}?"
    return f"Which {cell} moves the {metric}, with {_RUN[result.direction]}?"


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


def commands(every: Sequence[Contents]) -> list[str]:
    """The commands that made the results, as a shell takes them, each once, in the order in which they were run."""
    parts = [part for contents in every for part in contents.walk()]
    told = sorted(
        (each for part in parts for each in origins(part)), key=lambda each: _second(str(each.get("time", "")))
    )
    found: dict[str, None] = {}
    for words in map(_words, told):
        if words and _program(words[0]) not in _NO_COMMANDS:
            found[shlex.join(words)] = None
    return list(found)


def in_order(every: Sequence[Contents]) -> bool:
    """Whether it is known of all commands when they were run."""
    parts = [part for contents in every for part in contents.walk()]
    return all(each.get("time") for part in parts for each in origins(part))


def times(every: Sequence[Contents]) -> list[str]:
    """When the results were made: the first and the last minute (UTC)."""
    parts = [part for contents in every for part in contents.walk()]
    told = sorted({_minute(str(each["time"])) for part in parts for each in origins(part) if each.get("time")})
    return told[:1] + told[-1:] if len(told) > 1 else told


def _minute(told: str) -> str:
    """`2026-01-01 00:00` of a time as provenance has it, and what is no time as it is."""
    return second[:-3] if (second := _second(told)) != told else told


def _second(told: str) -> str:
    """`2026-01-01 00:00:00` (UTC) of a time as provenance has it, and what is no time as it is."""
    try:
        found = datetime.fromisoformat(told)
    except ValueError:
        return told
    return (found.astimezone(UTC) if found.tzinfo else found).strftime("%Y-%m-%d %H:%M:%S")


def hashes(contents: Contents) -> Iterator[tuple[str, int, str]]:
    """Each result's file and table: its path in the folder, its size in bytes and its SHA-256.

    Raises:
        ReportError: one was changed since it was read.
    """
    for part in contents.walk():
        for file in part.files:
            if file.kind in READERS or file.kind in ("table", "provenance"):
                digest = file.sha256
                yield _name(contents, file), file.path.stat().st_size, digest


def _name(contents: Contents, file: File) -> str:
    return file.path.relative_to(contents.folder).as_posix()


def _words(told: Mapping[str, Any]) -> list[str]:
    """The command's words, the program by its name and not by where it was installed."""
    try:
        words = shlex.split(str(told.get("command", "")))
    except ValueError:
        return [str(told["command"])]
    if words and (PurePath(words[0]).name == "circuitkit" or PurePath(words[0]).parts[-2:] == ("circuitkit", "cli.py")):
        words[0] = "circuitkit"
    elif words and words[0].endswith(".py") and _program(words[0]) not in _NO_COMMANDS:
        words = ["python", *words]
    return words


def _program(word: str) -> str:
    """A program's name: a package's, where Python ran that."""
    path = PurePath(word)
    return path.parent.name if path.name == "__main__.py" else path.name


def _script(told: Mapping[str, Any]) -> str:
    """The name of the experiment's script; empty where it was none."""
    script = next((word for word in _verb(told)[:1] if word.endswith(".py")), "")
    return PurePath(script).stem


def _verb(told: Mapping[str, Any]) -> list[str]:
    """The words that say what was done: a verb and what comes behind it, or a script."""
    return _words(told)[1:3]
