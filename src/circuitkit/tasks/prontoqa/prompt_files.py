"""Files of prompts as they were given to models, such as the published ones, read as tasks."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

from circuitkit.tasks.prontoqa.evaluations import MAX_NEW_TOKENS, NEXT_QUESTION
from circuitkit.tasks.prontoqa.judges import PROOF_JUDGES
from circuitkit.tasks.prontoqa.shapes import ALIASES, RULES
from circuitkit.tasks.prontoqa.verdict import judge
from circuitkit.tasks.task import Item, Task, TaskError


def prompt_file(path: str | PathLike[str], key: str) -> Task:
    """Read one set of prompts from a file, to ask a model exactly these.

    The file is JSON: `{"<rule>/<shots>shot": {"prompts": […], "gold": […]}}`. A prompt is questions that begin with
    "Q:", all but the last with their answers, and ends where the last one's answer is to begin. With all exemplars the
    text asked is the file's to the byte; where they don't fit, the first ones are given.

    Args:
        path: the file.
        key: names the set; the source's names of rules are taken too, as in "OrElim/8shot".

    Raises:
        TaskError: the file cannot be read, has no such set, or a prompt or gold proof in it is none.

    Source: the prompts of Hsiao & Dutta 2025, arXiv 2502.15120, have this form.

    >>> import json, tempfile
    >>> question = "Q:  Rex is an angry vumpus. Prove: Rex is a vumpus.\\nA:"
    >>> prompts = {"prompts": [question], "gold": ["Rex is an angry vumpus. Rex is a vumpus."]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "prompts.json"
    ...     _ = path.write_text(json.dumps({"AndElim/0shot": prompts}))
    ...     asked = prompt_file(path, "AndElim/0shot")
    >>> asked.prompt(asked.items[0]) == question
    True
    """
    file = Path(path)
    found, named = _set(_read(file), key, file)
    prompts, golds = (_texts(found, field, f"{file}, {named}") for field in ("prompts", "gold"))
    if len(prompts) != len(golds):
        raise TaskError(f"{file}, {named}: {len(prompts)} prompts but {len(golds)} gold proofs; each prompt has one")
    rule = named.split("/")[0]
    items = tuple(
        _item(prompt, gold, f"{named}/{number:03d}", rule, f"{file}, {named}")
        for number, (prompt, gold) in enumerate(zip(prompts, golds, strict=True))
    )
    most = min((len(item.exemplars) for item in items), default=0)
    uneven = next((item for item in items if len(item.exemplars) != most), None)
    if uneven is not None:
        raise TaskError(
            f"{file}: prompt {uneven.key!r} has {len(uneven.exemplars)} exemplars where others have {most}: "
            "split them into sets of equal shots"
        )
    return Task(
        f"prontoqa/{named}",
        items,
        PROOF_JUDGES,
        shots=most,
        max_new_tokens=MAX_NEW_TOKENS,
        stop=(NEXT_QUESTION,),
        source=f"{file.name}, {named}",
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        sets = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{file}: no prompts can be read: {error.strerror}") from error
    except ValueError as error:
        raise TaskError(f"{file} is no JSON: {error}") from error
    if not isinstance(sets, dict):
        raise TaskError(f'{file}: a file of prompts is {{"<rule>/<shots>shot": {{"prompts": […], "gold": […]}}}}')
    return sets


def _set(sets: dict[str, Any], key: str, file: Path) -> tuple[Any, str]:
    """The set that a key names, as it stands or with the rule's own name."""
    rule, slash, rest = key.partition("/")
    for named in (key, f"{ALIASES.get(rule, rule)}{slash}{rest}"):
        if named in sets:
            return sets[named], named
    raise TaskError(f"{file} has no prompts {key!r}; it has: {', '.join(map(str, sets)) or 'none'}")


def _texts(found: Any, field: str, where: str) -> list[str]:
    if not isinstance(found, dict) or not isinstance(found.get(field), list):
        raise TaskError(f"{where}: the field {field!r} is missing, or no list of texts")
    if not found[field]:
        raise TaskError(f"{where}: {field!r} is empty; a set holds one prompt at least, with its gold proof")
    for number, text in enumerate(found[field]):
        if not isinstance(text, str) or not text.strip():
            raise TaskError(f"{where}: number {number} of {field!r} is no text: {text!r}")
    return list(found[field])


def _item(prompt: str, gold: str, key: str, rule: str, where: str) -> Item:
    start, *questions = re.split(r"(?=^Q:)", prompt, flags=re.MULTILINE)
    if start or not questions or not questions[-1].rstrip().endswith("A:"):
        raise TaskError(
            f"{where}: prompt {key!r} is not 'Q: … A: …' once an exemplar and then 'Q: … A:': it begins "
            f"{prompt[:40]!r} and ends {prompt[-20:]!r}"
        )
    *exemplars, question = questions
    try:
        judge(question, "")
    except ValueError as error:
        raise TaskError(f"{where}: prompt {key!r} cannot be judged: {error}") from error
    groups: dict[str, str | int] = {"rule": ALIASES.get(rule, rule)} if ALIASES.get(rule, rule) in RULES else {}
    return Item(key, question, gold, tuple(exemplars), groups)
