"""One run of a task of lm-eval with one seed."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask
from lm_eval.defaults import DEFAULT_OTHER_SEED

from circuitkit.interop.lm_eval.bridging import UNPARSEABLE
from circuitkit.interop.lm_eval.configurations import Configured
from circuitkit.interop.lm_eval.endings import Ending
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.interop.lm_eval.extraction import extracted
from circuitkit.interop.lm_eval.harness_model import HarnessModel
from circuitkit.interop.lm_eval.logs import quiet
from circuitkit.interop.lm_eval.outcome import HarnessRun


def run_of(harness: HarnessModel, asked: Configured, seed: int, asking: Mapping[str, Any]) -> HarnessRun:
    """One task's run with one seed.

    Args:
        harness: who answers.
        asked: the task.
        seed: what torch is seeded with; its generators are then put back as they were.
        asking: generation, limit, chat, system and order_seed of `evaluate`.

    Raises:
        HarnessError: the data set cannot be had, or the task has no metric that is a mean over responses.
    """
    told = asked.told
    task = ready(asked, asking["generation"])
    began = time.monotonic()
    harness.endings = []
    with quiet(), _seeded(asking["order_seed"], seed):
        found = lm_eval.evaluate(
            harness,
            {asked.name: task},
            limit=asking["limit"],
            apply_chat_template=asking["chat"],
            fewshot_as_multiturn=asking["chat"],
            system_instruction=asking["system"],
            # Means over seeds have their own error; a bootstrap within a run is not asked for.
            bootstrap_iters=0,
        )
    samples = found["samples"][asked.name]
    metrics = _metrics(asked, task.aggregation(), found["higher_is_better"][asked.name], samples[0])
    endings: list[Ending | None] = list(harness.endings) or [None] * len(samples)
    docs = list(dict.fromkeys(sample["doc_id"] for sample in samples))
    of_doc = dict(zip(docs, endings, strict=False))
    kept = [_sample(told, each, metrics, of_doc.get(each["doc_id"])) for each in samples]
    seconds = time.monotonic() - began
    return HarnessRun(asked.name, seed, asked.source, metrics, kept, seconds, asked.rules, harness.batch_size)


def _metrics(
    asked: Configured, aggregations: Mapping[str, Any], better: Mapping[str, Any], sample: Mapping[str, Any]
) -> dict[str, bool]:
    """The metrics that are means over responses, as the task lists them, and whether more of one is better.

    Raises:
        HarnessError: there is none.
    """
    # What failed has a column of its own.
    named = [name for name in better if name != UNPARSEABLE]
    means = [name for name in named if aggregations.get(name) is mean and _is_number(sample.get(name))]
    if not means:
        raise HarnessError(
            f"{asked.name} has no metric that is a mean of a number for each response, as means over seeds need; "
            f"it has {', '.join(named)}"
        )
    if others := [name for name in named if name not in means]:
        warnings.warn(
            f"{asked.name}: {', '.join(others)} left out, as no mean over responses: ask lm-eval itself for it",
            stacklevel=2,
        )
    return {name: bool(better[name]) for name in means}


def ready(asked: Configured, generation: Mapping[str, Any]) -> Any:
    """A task as lm-eval's `simple_evaluate` makes it ready, which beside that looks up the whole environment.

    Raises:
        HarnessError: its data set cannot be had.
    """
    try:
        with quiet():
            # lm-eval writes settings into what it is given, and the same configuration may be asked again with others.
            task = ConfigurableTask(config=copy.deepcopy(dict(asked.told)))
    except OSError as error:
        raise HarnessError(
            f"{asked.name}: its data set {asked.source} cannot be had ({error}): where the hub wants its terms "
            f"accepted, accept them and log in; or give questions of your own, as data={{{asked.name!r}: FILE}} or "
            f"--questions {asked.name}=FILE"
        ) from error
    if asked.generates:
        task.set_config(key="generation_kwargs", value=dict(generation), update=True)
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return task


@contextmanager
def _seeded(order_seed: int, seed: int) -> Iterator[None]:
    """Seed the generators as lm-eval does, and put them back as they were."""
    orders, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  # lm-eval's tasks draw of the global one
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(order_seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(orders)
            np.random.set_state(numbers)  # noqa: NPY002


def _sample(
    told: Mapping[str, Any], sample: Mapping[str, Any], metrics: Mapping[str, bool], ending: Ending | None
) -> dict[str, Any]:
    read = extracted(told, sample)
    return {
        "doc": sample["doc_id"],
        "filter": sample["filter"],
        "target": str(sample["target"]),
        "read": _plain(sample["filtered_resps"][0]),
        **{name: float(sample[name]) for name in metrics},
        "unextracted": None if read is None else not read,
        "truncated": None if ending is None else ending.truncated,
        "cut": None if ending is None else ending.cut,
        "n_tokens": None if ending is None else ending.n_tokens,
        "response": _plain(sample["resps"][0][0]),
        "prompt": str(sample["arguments"][0][0]),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number | np.bool_)


def _plain(said: Any) -> str:
    return said if isinstance(said, str) else str(said)
