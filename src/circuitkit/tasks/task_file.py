"""A task of one's own in one file: a TOML file that says where its data is and how it is asked, or Python."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from circuitkit.tasks import exemplar_texts, multiple_choice
from circuitkit.tasks.answers import expressions, letters, patterns
from circuitkit.tasks.answers.judges import chosen
from circuitkit.tasks.sources import FORMATS, HubData, Row, Rows, from_file, from_hub
from circuitkit.tasks.task import Item, Judge, Task, TaskError
from circuitkit.tasks.templates import fields, filled, text_of

_REQUIRED = ("name", "data", "prompt", "gold", "answer")
_KINDS: dict[str, tuple[type[Any], ...]] = {
    **dict.fromkeys(("name", "data", "prompt", "gold", "key", "config", "split", "separator"), (str,)),
    "answer": (str, dict, list),
    "exemplars": (str, list),
    "groups": (list,),
    "stop": (list,),
    **dict.fromkeys(("shots", "max_new_tokens"), (int,)),
    "chance": (int, float),
    **dict.fromkeys(("fields", "choices"), (dict,)),
}
_TABLES: dict[str, dict[str, tuple[type[Any], ...]]] = {
    "choices": {"field": (str,), "each": (str,), "gold": (str,)},
    "answer": {"regex": (str,), "take": (str,), "ignore_case": (bool,)},
}
_NAMES: dict[type, str] = {
    str: "a text",
    dict: "a table",
    list: "a list",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
_NAMED: dict[str, Callable[[], Judge]] = {
    "letter": lambda: letters.robust,
    "number": expressions.number,
    "math": expressions.expression,
    "exact": lambda: patterns.exact,
}
_OPTIONS = ("data", "exemplars", "shots", "max_new_tokens", "judges")


def read(path: Path, options: Mapping[str, Any]) -> Task:
    """The task that a file describes.

    Args:
        path: a `.toml` file, or a `.py` file with a function `task()`.
        options: what is to be otherwise than a `.toml` file says, of `data`, `exemplars`, `shots`, `max_new_tokens`,
            `judges`; or what the function takes.

    Raises:
        TaskError: the file cannot be read, lacks a field or has one that is unknown; or its data lacks a field. File,
            field and row are named.
    """
    if path.suffix == ".py":
        return _from_python(path, options)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"{path} is not TOML: {error}") from error
    try:
        return _described(path.parent, told, options)
    except TaskError as error:
        raise TaskError(f"{path}: {error}") from error


def _described(folder: Path, told: dict[str, Any], options: Mapping[str, Any]) -> Task:
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise TaskError(f"no option {unknown[0]!r}; what may be otherwise than in the file is {', '.join(_OPTIONS)}")
    told = told | {name: _from_here(name, value) for name, value in options.items() if name != "judges"}
    _check(told, _KINDS, _REQUIRED)
    found = _rows(folder, told)
    texts, where = _exemplars(folder, told)
    judges = chosen(told["name"], _judges(told["answer"]), options.get("judges"))
    return Task(
        told["name"],
        tuple(_item(told, row) for row in found.rows),
        judges,
        texts,
        shots=told.get("shots", len(texts)),
        max_new_tokens=told.get("max_new_tokens", 256),
        stop=tuple(told.get("stop", ())),
        chance=told.get("chance"),
        source=found.source + where,
    )


def _from_here(name: str, value: Any) -> Any:
    """An option; paths are seen from where the call is made, those in the file from its folder."""
    if name == "exemplars" and not isinstance(value, str | Path):
        return list(value)
    is_path = isinstance(value, Path) or name == "exemplars" or (name == "data" and Path(value).suffix in FORMATS)
    return str(Path(value).absolute()) if is_path else value


def _check(told: Mapping[str, Any], kinds: Mapping[str, tuple[type[Any], ...]], required: tuple[str, ...] = ()) -> None:
    if missing := [name for name in required if name not in told]:
        raise TaskError(f"the field {missing[0]!r} is missing; a task needs {', '.join(required)}")
    for name, value in told.items():
        if name not in kinds:
            raise TaskError(f"the field {name!r} is unknown; there are {', '.join(kinds)}")
        # To Python, true is a whole number.
        if not isinstance(value, kinds[name]) or (isinstance(value, bool) and bool not in kinds[name]):
            wanted = " or ".join(_NAMES[kind] for kind in kinds[name])
            raise TaskError(f"the field {name!r} must be {wanted}, and is {value!r}")
        if name in ("stop", "groups") and not all(isinstance(each, str) for each in value):
            raise TaskError(f"the field {name!r} must be a list of texts, and is {value!r}")
        if isinstance(value, dict) and name in _TABLES:
            try:
                _check(value, _TABLES[name])
            except TaskError as error:
                raise TaskError(f"in [{name}], {error}") from error
    if any(not isinstance(each, str) for each in told.get("fields", {}).values()):
        raise TaskError("[fields] says what the data calls a field: its values are texts")
    if told.get("max_new_tokens", 1) < 1 or told.get("shots", 0) < 0 or not 0 <= told.get("chance", 0) <= 1:
        raise TaskError("max_new_tokens is 1 or more, shots 0 or more, and chance between 0 and 1")


def _rows(folder: Path, told: Mapping[str, Any]) -> Rows:
    data = told["data"]
    if Path(data).suffix in FORMATS:
        return from_file(folder / data)
    if "split" not in told:
        raise TaskError(
            f'data = {data!r} is read as a data set of the hub, which needs a split: write split = "test"; a file of '
            f"data ends in {', '.join(FORMATS)}"
        )
    return from_hub(HubData(data, told["split"], told.get("config")))


def _exemplars(folder: Path, told: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    given = told.get("exemplars", [])
    if isinstance(given, list):
        if not all(isinstance(text, str) for text in given):
            raise TaskError("exemplars are a list of texts, or the name of a file")
        return tuple(given), ""
    first = fields(told["prompt"])
    start = told["prompt"].partition(f"{{{first[0]}}}")[0].strip() if first else ""
    if not start:
        raise TaskError(
            "exemplars in a file begin as the prompt does, and this prompt begins with a field: give them as a list"
        )
    texts = exemplar_texts.from_file(folder / given, start, told.get("separator", "\n\n"))
    return texts, f"; exemplars: {folder / given}"


def _judges(answer: str | dict[str, Any] | list[Any]) -> dict[str, Callable[[], Judge]]:
    judges: dict[str, Callable[[], Judge]] = {}
    for each in answer if isinstance(answer, list) else [answer]:
        if isinstance(each, dict) and "regex" in each:
            name, judge = "regex", _pattern(each)
        elif isinstance(each, str) and each in _NAMED:
            name, judge = each, _NAMED[each]
        else:
            raise TaskError(
                f"answer = {each!r} is no way of reading an answer; there are {', '.join(_NAMED)}, or "
                '{ regex = \'…\', take = "first" or "last", ignore_case = true or false }, or a list of these'
            )
        if name in judges:
            raise TaskError(f"answer has {name!r} twice")
        judges[name] = judge
    return judges


def _pattern(told: Mapping[str, Any]) -> Callable[[], Judge]:
    _check(told, _TABLES["answer"], ("regex",))
    take = told.get("take", "first")
    if take not in ("first", "last"):
        raise TaskError(f'take is "first" or "last", and is {take!r}')
    try:
        pattern = re.compile(told["regex"], re.IGNORECASE if told.get("ignore_case", False) else 0)
    except re.error as error:
        raise TaskError(f"regex = {told['regex']!r} is no regular expression: {error}") from error
    return lambda: patterns.matching(pattern, take)


def _item(told: Mapping[str, Any], row: Row) -> Item:
    names: dict[str, str] = told.get("fields", {})
    choices: dict[str, str] = told.get("choices", {})
    made, offered = {}, {}
    if "choices" in told:
        field = choices.get("field", "choices")
        offered = multiple_choice.offered(row, names.get(field, field))
        made["choices"] = multiple_choice.listed(offered, choices.get("each", "({letter}) {text}\n"), row)
    key = filled(told["key"], row, names) if "key" in told else str(row.number)
    gold = filled(told["gold"], row, names).strip()
    if not gold:
        raise TaskError(f"{row.place}: question {key!r} has no answer key: gold = {told['gold']!r} is empty in it")
    if offered:
        gold = multiple_choice.letter_of(gold, choices.get("gold", "letter"), offered, row)
    question = filled(told["prompt"], row, names, made)
    if "letter" in told["answer"] and gold.lower() not in letters.choices(question):
        raise TaskError(
            f"{row.place}: the prompt of question {key!r} shows no choice {gold!r}, its gold: write choices as "
            '"(a) …" or "A. …", with [choices] or in the prompt'
        )
    groups = {name: _group(row, names.get(name, name)) for name in told.get("groups", ())}
    return Item(key, question, gold, groups=groups)


def _group(row: Row, field: str) -> str | int:
    held = row[field]
    return held if isinstance(held, int) and not isinstance(held, bool) else text_of(row, field)


def _from_python(path: Path, options: Mapping[str, Any]) -> Task:
    if not path.is_file():
        raise TaskError(f"there is no file {path}")
    name = f"circuitkit_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # A .py file always has both.
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for what their annotations mean.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    # What a user's file raises can be anything.
    except Exception as error:
        raise TaskError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, "task", None)
    if not callable(function):
        raise TaskError(f"{path} has no function task(), which returns the task")
    try:
        inspect.signature(function).bind(**options)
    except TypeError as error:
        raise TaskError(f"{path}: task() does not take these options: {error}") from error
    made = function(**options)
    if not isinstance(made, Task):
        raise TaskError(f"{path}: task() returns a {type(made).__name__}, and no circuitkit Task")
    return made
