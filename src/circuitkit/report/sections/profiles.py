"""What heads attend to by part of speech: the tables that `circuitkit attention profile` writes, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from circuitkit.report.contents import Contents
from circuitkit.report.section import Section
from circuitkit.report.sections.tables import thinned

_OF_HEADS = frozenset({"layer", "head", "entropy", "function_words", "function_words_uniform"})


def sections(contents: Contents) -> Iterator[Section]:
    """The section of the table of heads; those of other tables are made elsewhere."""
    for file in contents.of_kind("table"):
        frame = contents.table_of(file)
        if frame is None or set(frame.columns) != _OF_HEADS or frame.isna().any(axis=None) or frame.empty:
            continue
        table, notes = thinned(frame, file.path.name)
        yield Section(
            "heads by part of speech",
            "What each head attends to",
            "A row a head, means over prompts: how spread out its attention is (entropy, in nats), the share of it "
            "that falls on function words, and the share that would if each token attended to all up to itself alike.",
            table=table,
            notes=notes,
            says=tuple(_said(frame)),
        )
        contents.used(file.path)


def _said(frame: pd.DataFrame) -> Iterator[str]:
    uniform, n = frame["function_words_uniform"].iloc[0], len(frame)
    most, least = (frame.loc[getattr(frame["function_words"], end)()] for end in ("idxmax", "idxmin"))
    yield (
        f"Of the attention of {n} head{'s' * (n != 1)}, {frame['function_words'].mean():.1%} falls on function words "
        f"on average, beside {uniform:.1%} if it were spread evenly (means over prompts, without an interval): "
        f"{most['function_words']:.1%} in {_name(most)}, which has most, and {least['function_words']:.1%} in "
        f"{_name(least)}."
    )
    widest, narrowest = (frame.loc[getattr(frame["entropy"], end)()] for end in ("idxmax", "idxmin"))
    yield (
        f"The attention of {_name(widest)} is spread most widely (entropy {widest['entropy']:.2f} nats), that of "
        f"{_name(narrowest)} least ({narrowest['entropy']:.2f})."
    )


def _name(row: pd.Series[Any]) -> str:
    return f"L{int(row['layer'])}H{int(row['head'])}"
