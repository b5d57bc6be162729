"""The configuration of a task of lm-eval by its name, on its data set or on data of one's own."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuitkit.interop.lm_eval import TASKS
from circuitkit.interop.lm_eval.bridging import as_harness_task, splits_of
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.records import data_hash
from circuitkit.studies.code import UnhashableError
from circuitkit.studies.identity import Identity
from circuitkit.tasks.sources import Row, from_file
from circuitkit.tasks.task import Task

Data = str | Path | Sequence[str | Path] | Sequence[Mapping[str, Any]]
"""A file of data (JSON lines, a JSON list, CSV), several files, or rows."""
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class Configured:
    """A task as it is asked.

    Attributes:
        told: its configuration, whose documents are prepared once.
        source: where its questions come from, see `source_of`.
        rules: the hash of how it asks and judges, see `rules_of`.
    """

    told: Mapping[str, Any]
    source: str
    rules: str

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.told["task"])

    @property
    def generates(self) -> bool:
        """Whether responses are asked for, and not likelihoods."""
        return self.told.get("output_type") == "generate_until"


def configured(task: str | Path | Task | Mapping[str, Any], data: Data | None, order_seed: int) -> Configured:
    """A task, its questions and its rules, the order of its documents by a seed.

    Raises:
        HarnessError, TaskError: see `configuration_of`.
    """
    told = configuration_of(task, data)
    return Configured(in_one_order(told, order_seed), source_of(told), rules_of(told))


def configuration_of(task: str | Path | Task | Mapping[str, Any], data: Data | None = None) -> dict[str, Any]:
    """How lm-eval asks a task.

    Args:
        task: a name that lm-eval knows or one of circuitkit's own tasks for it, the path of a YAML file, a task of
            `circuitkit.tasks`, or a configuration.
        data: what is asked in place of the task's data set.

    Raises:
        HarnessError: there is no such task, it is a group of several, or the data lacks a field that it asks for.
        TaskError: a file of data cannot be read.
    """
    if isinstance(task, Task):
        told = as_harness_task(task)
    elif isinstance(task, Mapping):
        told = dict(task)
    else:
        told = _by_name(str(task))
    if "task" not in told or not isinstance(told["task"], str):
        raise HarnessError(f"{told.get('group', told.get('task'))} is a group of tasks: name the tasks")
    if (told.get("repeats") or 1) > 1:
        raise HarnessError(f"{told['task']} asks each question {told['repeats']} times: seeds are what repeats here")
    told["metadata"] = {"config_source": "circuitkit", **(told.get("metadata") or {})}
    return told if data is None else _on(told, data)


def _by_name(name: str) -> dict[str, Any]:
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise HarnessError(f"there is no task file {name}")
        return dict(load_yaml(name))
    # Most files are called like their task, and lm-eval's index of all of them takes a quarter of a minute.
    for folder in (TASKS, Path(lm_eval.tasks.__file__).parent):
        for path in sorted(folder.glob(f"**/{name}.yaml")):
            told: dict[str, Any] = load_yaml(path)
            if told.get("task") == name:
                return told
    entry = lm_eval.tasks.TaskManager(include_path=str(TASKS)).task_index.get(name)
    if entry is None:
        raise HarnessError(f"lm-eval has no task {name!r}; `lm_eval ls tasks` lists those that it has")
    return dict(load_yaml(entry.yaml_path)) if entry.yaml_path else {"group": name}


def source_of(told: Mapping[str, Any]) -> str:
    """Where a task's questions come from: the hash of data of one's own, or the data set's name."""
    if "custom_dataset" in told:
        rows = told["custom_dataset"](**(told.get("metadata") or {}), **(told.get("dataset_kwargs") or {}))
        return f"sha256 {data_hash([str(dict(row)) for row in next(iter(rows.values()))])}"
    return "/".join(str(told[part]) for part in ("dataset_path", "dataset_name") if told.get(part))


def rules_of(told: Mapping[str, Any]) -> str:
    """The hash of all that a task's configuration says but its questions: prompts, stop texts, filters, metrics, code.

    >>> one, other = ({"task": "a", "doc_to_text": text} for text in ("{{q}}", "Q: {{q}}"))
    >>> rules_of(one) == rules_of(other), rules_of(one) == rules_of(dict(one))
    (False, True)
    """
    identity = Identity()

    def digest(value: Any) -> str:
        try:
            return identity.digest(value)
        except UnhashableError:
            return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"

    with warnings.catch_warnings():
        # The code of some tasks in lm-eval has escapes that Python warns of when it is read.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return identity.digest({name: digest(value) for name, value in told.items() if name != "custom_dataset"})


def in_one_order(told: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The same task, whose documents are prepared once, by a seed.

    lm-eval prepares them anew each time that it looks at them. Where that shuffles answers, as in GPQA, the letter
    that is right stays the one that was shown thanks to the cache of `datasets` alone, and the order is that of
    whichever run came first on a machine, whatever its seed.
    """
    if not callable(told.get("process_docs")):
        return dict(told)
    prepare: Callable[[Any], Any] = told["process_docs"]
    prepared: dict[int, tuple[Any, Any]] = {}

    def prepared_once(documents: Any) -> Any:
        if id(documents) not in prepared:
            with _seeded(seed), _without_cache():
                try:
                    # The documents are kept too, so that their id stays theirs.
                    prepared[id(documents)] = (documents, prepare(documents))
                except KeyError as error:
                    raise HarnessError(f"{told['task']}: its data has no field {error}") from error
        return prepared[id(documents)][1]

    return {**told, "process_docs": prepared_once}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _without_cache() -> Iterator[None]:
    import datasets

    caching, hidden = datasets.is_caching_enabled(), datasets.are_progress_bars_disabled()
    datasets.disable_caching()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if caching:
            datasets.enable_caching()
        if not hidden:
            datasets.enable_progress_bars()


def _on(told: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """A task on other data; its own splits all hold them."""
    rows = [_with_fields(told, row) for row in _rows(data)]
    if not rows:
        raise HarnessError(f"{told['task']}: the data holds no questions")
    kept = {key: value for key, value in told.items() if key not in ("dataset_path", "dataset_name", "dataset_kwargs")}
    kept |= _exemplars_among(told, len(rows))
    splits = dict.fromkeys(kept[split] for split in _SPLITS if kept.get(split))
    return kept | {"custom_dataset": splits_of(rows, tuple(splits))}


def _exemplars_among(told: Mapping[str, Any], n_rows: int) -> dict[str, Any]:
    """Splits by which lm-eval leaves the question that is asked out of its own exemplars: one split for both."""
    shots, drawn = told.get("num_fewshot") or 0, told.get("fewshot_config") or {}
    if not shots or drawn.get("samples") is not None:
        return {}
    if n_rows <= shots:
        raise HarnessError(
            f"{told['task']} shows {shots} exemplars before each question, which come out of the data too: "
            f"{n_rows} questions are too few"
        )
    both: dict[str, Any] = {"test_split": "test", "fewshot_split": "test"}
    return both | ({"fewshot_config": {**drawn, "split": "test"}} if "split" in drawn else {})


def _rows(data: Data) -> list[Row]:
    if isinstance(data, str | Path):
        return list(from_file(Path(data)).rows)
    found: list[Row] = []
    for number, each in enumerate(data):
        if isinstance(each, Mapping):
            found.append(Row(f"row {number + 1} of the data", number, each))
        else:
            found.extend(from_file(Path(each)).rows)
    return found


def _with_fields(told: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """A row with the fields that a task's templates name, whose case may differ."""
    values = dict(row.values)
    if told.get("process_docs") is None:
        for field in _asked_for(told):
            if field not in values:
                found = next((own for own in row.values if own.lower() == field.lower()), None)
                if found is None:
                    there = ", ".join(row.values)
                    raise HarnessError(f"{row.place}: {told['task']} asks for the field {field!r}; there are {there}")
                values[field] = values.pop(found)
    return values


def _asked_for(told: Mapping[str, Any]) -> list[str]:
    from jinja2 import Environment, meta

    fields: dict[str, None] = {}
    for template in (told.get("doc_to_text"), told.get("doc_to_target")):
        if isinstance(template, str):
            named = meta.find_undeclared_variables(Environment(autoescape=False).parse(template))
            fields |= dict.fromkeys(sorted(named) or ([template] if "{" not in template else []))
    return list(fields)
