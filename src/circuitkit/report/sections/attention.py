"""Attention: every head's pattern on a prompt, to be pointed at token by token; two prompts or models side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from circuitkit.report import stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section, Still
from circuitkit.report.sections.attending import Captured, Head, captured_in, habits
from circuitkit.report.sections.attention_choice import Chosen, chosen
from circuitkit.report.sections.attention_weights import Packed
from circuitkit.results import Result


class Reading(Packed):
    """A prompt as one model reads it (`Reading` in frontend/src/views/attention/data.ts).

    `kept` are the heads whose weights and scores follow, in this order; `n_heads` are those that each layer has.
    """

    name: str
    tokens: Sequence[str]
    layers: list[int]
    n_heads: list[int]
    kept: list[Head]


class AttentionData(TypedDict):
    """What the front end's attention view shows.

    `start` is the head that is shown first, `beside` the reading that stands beside the first; `marked` are heads that
    a study of the folder found, and `study` is what that is called.
    """

    readings: list[Reading]
    start: Head
    beside: int | None
    marked: list[Head]
    study: str | None


def sections(contents: Contents) -> Iterator[Section]:
    """One section for all patterns of a folder, and those of the folder beside it."""
    every = list(captured_in(contents))
    start, marked, study = _found(contents, every)
    choice = chosen(every, start)
    yield _section(contents, every, choice, marked, study)
    for part in filter(None, (contents, contents.beside)):
        part.used(*(file.path for file in part.of_kind("attention")))
    if choice.readings:
        # What `circuitkit attention` draws of each head.
        contents.used(*(f"layer{layer}-head{head}.png" for layer, head in choice.readings[0].kept))


def _section(
    contents: Contents, every: Sequence[Captured], choice: Chosen, marked: list[Head], study: str | None
) -> Section:
    readings = choice.readings
    data: AttentionData = {
        "readings": [
            {
                "name": each.captured.name,
                "tokens": each.captured.words,
                "layers": list(each.captured.layers),
                "n_heads": [each.captured.n_heads(layer) for layer in each.captured.layers],
                "kept": list(each.kept),
                **each.packed(),
            }
            for each in readings
        ],
        "start": choice.start,
        "beside": choice.beside,
        "marked": marked,
        "study": study,
    }
    models = list(dict.fromkeys(each.model for each in every))
    return Section(
        name="attention",
        title="Attention" if len(contents.of_kind("attention")) != 1 else contents.of_kind("attention")[0].title,
        caption=_caption(models, interactive=bool(readings)),
        view="attention" if readings else None,
        data=dict(data) if readings else None,
        stills=tuple(_stills(every, choice)),
        notes=(*choice.notes, *((_steps(choice),) if readings else ())),
        says=tuple(sentence for each in _at_first(every, choice) if (sentence := habits(each))),
    )


def _caption(models: Sequence[str], *, interactive: bool) -> str:
    told = f"Where the heads of {' and of '.join(models)} look: the share of its attention that a token puts on each."
    if not interactive:
        return told
    return (
        f"{told} Choose a head from the small maps (queries downwards, keys to the right), and point at a token: the "
        "others take the colour of what it attends to, or of what attends to it. A click pins a token. Arcs are the "
        "head's strongest edges; bars under tokens are their scores after Kang & Shin, with the first token's column "
        "left out as published."
    )


def _steps(choice: Chosen) -> str:
    error, of_small = (max(each.error(weight or each.high) for each in choice.readings) for weight in (None, 0.01))
    rough = not all(each.fine for each in choice.readings)
    smaller = f", and small ones nearer (one of 0.01 within {of_small:.1g})" if rough else ""
    return (
        f"Weights are kept in {8 if rough else 16} bits, each within {error:.1g} of the file's{smaller}; attention "
        "that goes to a sink is no token's, so that a token's shares need not add up to 1."
    )


def _stills(every: Sequence[Captured], choice: Chosen) -> Iterator[Still]:
    """The first head's pattern on each prompt that is seen at first, as the patterns draw themselves."""
    layer, head = choice.start
    for each in _at_first(every, choice):
        if each.has((layer, head)):
            on = f" on {each.name}" if each.name else ""
            alt = f"Attention of layer {layer}, head {head}{on}: queries downwards, keys to the right"
            yield stills.of_result(each.attention, alt, layer=layer, head=head, row=each.row)


def _at_first(every: Sequence[Captured], choice: Chosen) -> list[Captured]:
    """The prompts that are seen before anything is chosen."""
    if not choice.readings:
        return list(every[:1])
    return [choice.readings[at].captured for at in (0, choice.beside) if at is not None]


def _found(contents: Contents, every: Sequence[Captured]) -> tuple[Head | None, list[Head], str | None]:
    """The strongest head of a study of the same model's heads, those that survive in it, and what it is called."""
    studies = [file for file in contents.files if file.kind == "result" and _is_of_heads(file, every[0])]
    # What restores the answer says more of where it comes from than what is lost without it.
    for file in sorted(studies, key=lambda file: file.value.direction == "ablate"):
        result: Result = file.value
        effects = result.effects.abs().nan_to_num(-1.0)
        heads = [
            (int(layer), int(head))
            for layer in result.coordinates.get("layer", range(effects.shape[0]))
            for head in result.coordinates.get("head", range(effects.shape[1]))
        ]
        survive = [] if result.frame.attrs.get("statistics") else result.significant.flatten().tolist()
        marked = [head for head, survives in zip(heads, survive, strict=False) if survives]
        return heads[int(effects.argmax())], marked, file.title
    return None, [], None


def _is_of_heads(file: File, captured: Captured) -> bool:
    result = file.value
    known = result.provenance.get("model")
    return tuple(result.axes) == ("layer", "head") and known == captured.model and not bool(result.values.isnan().all())
