"""The run of an evaluation: items are asked, responses written, judged and kept, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from circuitkit.evaluation.asking import Asked, Asking, check_fits
from circuitkit.evaluation.choosing import Chooser
from circuitkit.evaluation.decoding import Decoding, decoding_of
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.joining import from_the_end, why_rows_are_named, why_rows_stay
from circuitkit.evaluation.outcome import RESPONSES, Evaluation, check_columns
from circuitkit.evaluation.responses import Keeping, Response
from circuitkit.evaluation.settings import check_prompts, check_same, settings_of
from circuitkit.evaluation.taking_place import TakingPlace
from circuitkit.evaluation.writers import ByBatch, ComingAndGoing, Staying, check_size
from circuitkit.evaluation.writing import Ending, Writing, end_tokens
from circuitkit.records import provenance
from circuitkit.run.interventions import Intervention, Interventions
from circuitkit.tasks import exemplars
from circuitkit.tasks.loading import load as load_task
from circuitkit.tasks.task import Task

if TYPE_CHECKING:
    from circuitkit.model import Model


def evaluate(
    model: Model,
    task: Task | str | Path,
    interventions: Interventions | ByBatch = (),
    *,
    decoding: str | Decoding = "clean",
    shots: int | None = None,
    seeds: Sequence[int] = (0,),
    samples: int = 1,
    limit: int | None = None,
    max_new_tokens: int | None = None,
    chat: bool = False,
    think: bool | None = None,
    batch_size: int | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Let a model answer the questions of a task, under any interventions, and judge its answers.

    A response depends on nothing but its own prompt, seed and sample: not on the batch that it is written in, nor on
    padding, nor on a run having been cut short.

    Args:
        model: who answers.
        task: a task, or a name or path that `circuitkit.tasks.load` takes.
        interventions: what holds while the model reads and writes; or a function of a batch's items and tokens, for
            what differs from prompt to prompt.
        decoding: "clean" (greedy), "paper" (as Hsiao & Dutta ran it), or a `Decoding`.
        shots: exemplars before each question; as many as the task wants and the context holds, if None.
        seeds: each item is answered anew with each; tokens have to be drawn for that.
        samples: responses of each item and seed.
        limit: the first questions alone.
        max_new_tokens: tokens at which a response is broken off; the task's if None.
        chat: put the prompt into the tokenizer's chat template, as one message of the user.
        think: turn thinking on or off in that template; what follows `</think>` is judged.
        batch_size: responses written at a time; as many as the memory holds, if None.
        out: a folder that keeps every response as it ends; the same call goes on there where it was cut short.
        progress: show a bar.

    Raises:
        EvaluationError: a setting that the model, its tokenizer or the task does not have; a prompt that does not fit
            the context; logits that hold NaN; a folder that holds an evaluation of other settings.
        TaskError: there is no such task, or more exemplars are wanted than it has.
        InterventionError: an intervention does not fit, or never took place.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("implication_elimination", shots=0, n=4)
    >>> found = ck.evaluate(ck.load("deductor-130k"), task, [ck.zero("z[layer=0]")], progress=False)
    >>> found.accuracy.hits
    0
    """
    asking, asked = _asked(model, task, shots, limit, max_new_tokens, chat, think)
    check_columns(asking.task.name, asking.task.items, list(asking.task.judges))
    way = decoding_of(decoding)
    room = asking.task.max_new_tokens if max_new_tokens is None else max_new_tokens
    _check(model, way, seeds, samples, room, interventions)
    if not callable(interventions):
        _check_reached(asked, interventions)
    check_size(batch_size)
    ending = Ending(model.tokenizer, end_tokens(model), asking.task.stop, thinks=chat, must_think=think is True)
    writer = _writer(model, interventions, Chooser(way), ending, batch_size)
    writings = [
        Writing(each, sample, seed, _room(model, each, room))
        for each in asked
        for seed in seeds
        for sample in range(samples)
    ]
    folder = None if out is None else Path(out)
    if folder is not None:
        check_same(folder, settings_of(model, asking, way, interventions, room))
    responses = _responses(writer, writings, asking.task, ending, folder, progress)
    found = Evaluation(
        model=model.name,
        task=asking.task.name,
        items=tuple(each.item for each in asked),
        judges=tuple(asking.task.judges),
        responses=tuple(responses),
        decoding=way.name,
        shots=asking.shots,
        exemplars=asking.task.exemplars[: asking.shots],
        chance=asking.task.chance,
        provenance=_provenance(model, asking, asked, way, interventions, room, writer.how, seeds, samples),
    )
    if folder is not None:
        found.save_beside(folder)
    return found


def _asked(
    model: Model,
    task: Task | str | Path,
    shots: int | None,
    limit: int | None,
    max_new_tokens: int | None,
    chat: bool,
    think: bool | None,
) -> tuple[Asking, list[Asked]]:
    """The prompts, with as many exemplars as fit where their number is not given."""
    if model.tokenizer is None:
        raise EvaluationError(
            f"{model.name} has no tokenizer, and a task's questions are text: give ck.Model(hf_model, tokenizer)"
        )
    task = task if isinstance(task, Task) else load_task(str(task))
    if limit is not None and limit < 1:
        raise EvaluationError(f"limit {limit} leaves no question: give 1 or more, or None for all")
    if shots is None:
        probe = Asking(task, model.tokenizer, 0, chat, think)
        shots = exemplars.that_fit(task, model.tokenizer, model.context, max_new_tokens, lengths=probe.lengths)
    asking = Asking(task, model.tokenizer, shots, chat, think)
    asked = asking.asked(task.items[:limit])
    check_fits(model, asked, shots)
    return asking, asked


def _check(
    model: Model, way: Decoding, seeds: Sequence[int], samples: int, room: int, interventions: Interventions | ByBatch
) -> None:
    if samples < 1 or not seeds or len(set(seeds)) != len(seeds):
        raise EvaluationError(
            f"{samples} samples of the seeds {list(seeds)}: give 1 sample or more, and seeds that differ"
        )
    if way.greedy and (samples > 1 or len(seeds) > 1):
        raise EvaluationError(
            f"the decoding {way.name!r} is greedy, so all samples and seeds would be alike: give one of each, or a "
            "Decoding with a temperature over 0"
        )
    if room < 1:
        raise EvaluationError(f"max_new_tokens {room} leaves no answer: give 1 or more")
    if isinstance(interventions, Intervention):
        raise EvaluationError("interventions are a list, or a function of a batch: put the one in a list")
    for session in model.sessions:
        if session.captures or (why := why_rows_are_named(session.interventions)):
            what = "captures" if session.captures else why
            raise EvaluationError(
                f"a context that is open on the model holds for the rows of one batch ({what}), and here come many: "
                "close it, and give a function of a batch as interventions"
            )


def _check_reached(asked: Sequence[Asked], interventions: Interventions) -> None:
    """Refuse a position that a prompt, counted from its end, does not have: its response would be another's control."""
    shortest = min(asked, key=lambda each: len(each.ids))
    for each in interventions:
        if (back := from_the_end(each)) > len(shortest.ids):
            raise EvaluationError(
                f"the intervention at {each.site} names position {-back}, and the prompt of item "
                f"{shortest.item.key!r} has {len(shortest.ids)} tokens: leave out prompts so short, or name another"
            )


def _writer(
    model: Model, interventions: Interventions | ByBatch, chooser: Chooser, ending: Ending, size: int | None
) -> ComingAndGoing | Staying:
    """The way in which responses are written."""
    why = why_rows_stay(model)
    if callable(interventions):
        how = "batches that stay, since interventions are made for each"
        return Staying(model, interventions, chooser, ending, size, padded=why is None, how=how)
    listed = list(interventions)
    if named := why_rows_are_named(listed):
        raise EvaluationError(
            f"{named}, and batches are of other rows than you know: give a function of a batch's items and tokens "
            "that makes its interventions"
        )
    if why is not None:
        how = f"batches of equal lengths, since {why}"
        return Staying(model, listed, chooser, ending, size, padded=False, how=how)
    return ComingAndGoing(model, listed, chooser, ending, size)


def _room(model: Model, asked: Asked, wanted: int) -> int:
    return wanted if model.context is None else min(wanted, model.context - len(asked.ids))


def _responses(
    writer: ComingAndGoing | Staying,
    writings: Sequence[Writing],
    task: Task,
    ending: Ending,
    folder: Path | None,
    progress: bool,
) -> list[Response]:
    """All responses in their order, those that a folder has and those that are written now."""
    keeping: AbstractContextManager[Keeping | None] = (
        nullcontext(None) if folder is None else Keeping(folder / RESPONSES)
    )
    found: dict[tuple[str, int, int], Response] = {}
    with keeping as file:
        if file is not None:
            prompts = {writing.asked.item.key: writing.asked.prompt for writing in writings}
            check_prompts(file.path.parent, prompts, [(kept.key, kept.prompt) for kept in file.kept])
            # Judged anew, so that a table is of one judge.
            items = {writing.asked.item.key: writing.asked.item for writing in writings}
            found = {kept.name: _judged(task, items[kept.key], kept) for kept in file.kept if kept.key in items}
        waiting = [writing for writing in writings if _name(writing) not in found]
        taking_place = TakingPlace(folder)
        if writer.session is not None:
            taking_place.begin(writer.session) if waiting else taking_place.check(writer.session)
        bar = tqdm(total=len(writings), initial=len(writings) - len(waiting), disable=not progress, unit="response")
        with bar:
            for response in _written(writer, waiting, task, ending):
                if writer.session is not None:
                    taking_place.note(writer.session)
                if file is not None:
                    file.keep(response)
                found[response.name] = response
                bar.update()
    return [found[_name(writing)] for writing in writings]


def _written(
    writer: ComingAndGoing | Staying, waiting: Sequence[Writing], task: Task, ending: Ending
) -> Iterator[Response]:
    if not waiting:
        return
    for writing in writer.written(waiting):
        text = ending.text(writing)
        bare = Response(
            *_name(writing),
            prompt=writing.asked.prompt,
            text=text,
            judged=ending.answer(text),
            n_tokens=len(writing.ids),
            truncated=writing.ended == "length",
            seconds=writing.seconds,
            judgements={},
        )
        yield _judged(task, writing.asked.item, bare)


def _judged(task: Task, item: Any, response: Response) -> Response:
    from dataclasses import replace

    return replace(response, judgements={name: judge(item, response.judged) for name, judge in task.judges.items()})


def _name(writing: Writing) -> tuple[str, int, int]:
    return (writing.asked.item.key, writing.sample, writing.seed)


def _provenance(
    model: Model,
    asking: Asking,
    asked: Sequence[Asked],
    way: Decoding,
    interventions: Interventions | ByBatch,
    room: int,
    how: str,
    seeds: Sequence[int],
    samples: int,
) -> dict[str, Any]:
    named = (
        [f"by batch: {getattr(interventions, '__qualname__', type(interventions).__name__)}"]
        if callable(interventions)
        else [f"{each.operation} {each.site} ({each.during})" for each in interventions]
    )
    return provenance(
        model_name=model.name,
        revision=model.revision,
        data=[each.prompt for each in asked],
        study="evaluation",
        task=asking.task.name,
        source=asking.task.source,
        decoding={"name": way.name, **way.settings},
        shots=asking.shots,
        chat=asking.chat,
        think=asking.think,
        max_new_tokens=room,
        stop=list(asking.task.stop),
        seeds=list(seeds),
        samples=samples,
        interventions=named,
        written=how,
        device=str(model.device),
        dtype=str(model.hf.dtype),
    )
