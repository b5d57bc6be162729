"""Data in a page: JSON that no text in it can break out of, short numbers, and how much there is room for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from torch import Tensor

DIGITS = 5
"""Significant digits of a number in a page."""

MOST_BYTES = 4_900_000
"""How large a page may be."""

MOST_OF_A_VIEW = 1_000_000
"""How large one view's data should be: its maker thins what is larger, and says so."""

MOST_ROWS = 200
"""How many rows of a table are shown."""

MOST_LETTERS = 400
"""How much of a text stands in a table's cell."""

_UNSAFE = re.compile("[<>&\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def as_json(data: Any) -> str:
    """Data as JSON for a `<script type="application/json">`: no text in it ends the script or begins a comment.

    Numbers have 5 significant digits; NaN and infinities are null; tensors and arrays are nested lists.

    Raises:
        TypeError: something in it is no JSON, tensor or array.

    >>> as_json({"a": [1 / 3, float("nan")], "b": "</script>"})
    '{"a":[0.33333,null],"b":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def short(number: float) -> float | int | None:
    """A number to 5 significant digits, whole ones without a point; None where it is not finite.

    >>> short(123456.7), short(0.1234567), short(float("inf"))
    (123460, 0.12346, None)
    """
    if not math.isfinite(number):
        return None
    rounded = float(f"{number:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def _plain(data: Any) -> Any:
    if data is None or isinstance(data, bool | str | int):
        return data
    if isinstance(data, float):
        return short(data)
    if isinstance(data, Tensor):
        return _plain(data.detach().cpu().tolist())
    if isinstance(data, np.ndarray | np.generic):
        return _plain(data.tolist())
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, Sequence):
        return [_plain(value) for value in data]
    if isinstance(data, Set):
        raise TypeError("a set has no order: give a sorted list")
    raise TypeError(f"cannot write a {type(data).__name__} into a page; give numbers, texts, tensors, or nests of them")
