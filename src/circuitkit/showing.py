"""How results show themselves: in a notebook as a title, sentences and their strongest rows, elsewhere in a line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_TEXT = 60
_LONGEST_LINE = 400
_MOST_ENTRIES = 6
_PATH = re.compile(r"(?<![\w/.:<>])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\'\"<>]+[/\\])+([^\s/\\'\"<>,;:)\]]+)")
_PLAIN = (bool, int, float, str, type(None))


class Shown:
    """What a class is that shows itself: nothing of thousands of numbers, and all of it text that is escaped.

    It needs no more than a `__str__` or sentences in a report, and a `.frame`. A class whose title, sentences or
    strongest rows are others says so by `_title`, `_says` or `_strongest`.

    >>> from dataclasses import dataclass
    >>> @dataclass(repr=False)
    ... class Scores(Shown):
    ...     values: list[float]
    >>> Scores([0.5] * 1000)
    Scores(values=1,000 entries)
    >>> "Scores(values=1,000 entries)" in Scores([0.5] * 1000)._repr_html_()
    True
    """

    def _title(self) -> str:
        """What stands above: the class in words, and of which study, task or model the result is."""
        # Fields alone: a property may load a model.
        held = {**getattr(self, "provenance", {}), **vars(self)}
        named = (held.get(name) for name in ("title", "name", "task", "model"))
        texts = list(dict.fromkeys(each for each in named if isinstance(each, str) and each))
        of = ", ".join(each for each in texts if not any(each in other for other in texts if other is not each))
        return in_words(type(self).__name__) + (f": {of}" if of else "")

    def _says(self) -> Sequence[str]:
        """What it says of itself, a sentence each: as text, in a report, or as its line."""
        from circuitkit.report import sentences

        return sentences.of(self) or (str(self).splitlines() if _has_text(self) else [repr(self)])

    def _strongest(self) -> pd.DataFrame | None:
        """The rows to show, the strongest first; None where there are none."""
        import pandas as pd

        frame = getattr(self, "frame", None)
        return frame if isinstance(frame, pd.DataFrame) else None

    def _repr_html_(self) -> str:
        from circuitkit.report import notebook

        return notebook.shown(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The plain text of a notebook's cell, beside the HTML: its line, and what it says."""
        from circuitkit.report import notebook

        return {"text/plain": notebook.plain(self)}

    def __repr__(self) -> str:
        return in_a_line(self)


def without_folders(told: str) -> str:
    """A text without the folders of this machine: of a path from the root its last part is left.

    >>> without_folders("of /home/me/models/gpt2, a/b")
    'of …/gpt2, a/b'
    """
    return _PATH.sub(lambda found: f"…/{found[1]}", told)


def in_words(name: str) -> str:
    """A class's name in words.

    >>> in_words("HeadChanges"), in_words("CKA")
    ('Head changes', 'CKA')
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).split()
    return " ".join([words[0], *(word.lower() for word in words[1:])])


def in_a_line(value: Any) -> str:
    """A result in a line: what it says of itself, or its fields with long ones told by their size."""
    name = type(value).__name__
    if _has_text(value):
        return f"{name}({' '.join(str(value).split())})"
    if not is_dataclass(value):
        return object.__repr__(value)
    held = {each.name: getattr(value, each.name) for each in fields(value) if not each.name.startswith("_")}
    told = [f"{key}={_brief(each)}" for key, each in held.items() if each is not None and key != "provenance"]
    line = ", ".join(told)
    return f"{name}({line if len(line) <= _LONGEST_LINE else f'{line[:_LONGEST_LINE]}…'})"


def _has_text(value: object) -> bool:
    return any("__str__" in vars(kind) for kind in type(value).__mro__[:-1])


def _brief(value: Any) -> str:
    """A value where it is short, and else how large it is."""
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}…")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, _PLAIN):
        return repr(value)
    shape = getattr(value, "shape", None)
    if isinstance(shape, Sequence):
        return f"{value.item():.6g}" if len(shape) == 0 else f"{type(value).__name__} {list(shape)}"
    if isinstance(value, Mapping | Sequence | set | frozenset):
        simple = len(value) <= _MOST_ENTRIES and not isinstance(value, Mapping)
        if simple and all(isinstance(each, _PLAIN) for each in value):
            return f"[{', '.join(map(_brief, value))}]"
        return f"{len(value):,} entr{'y' if len(value) == 1 else 'ies'}"
    line = repr(value)
    return line if len(line) <= _LONGEST_TEXT and "\n" not in line else f"<{type(value).__name__}>"
