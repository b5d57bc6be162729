"""Clean and corrupt prompts in pairs, with what each should be answered; aligned when a model first reads them."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.metrics import PADDING, Metric, Targets
from circuitkit.model.tokens import Tokens
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.model.model import Model

Answers = Sequence[str] | Sequence[int] | Sequence[Sequence[int]] | Tensor
_FIELDS = ("clean", "corrupt", "answer", "distractor")
_WORDS_BEFORE = 6
"""Words that are shown before the first one in which long prompts differ."""

_PROMPT, _ANSWER = "text or a list of token ids", "text, a token id or a list of token ids"
_KINDS = {
    "clean": _PROMPT,
    "corrupt": _PROMPT,
    "answer": _ANSWER,
    "distractor": _ANSWER,
    "group": "text or a whole number",
}


class PairError(ValueError):
    """Pairs that cannot be aligned, or a file of pairs that cannot be read."""


@dataclass(frozen=True, eq=False, repr=False)
class Pairs(Shown):
    """Clean and corrupt prompts that differ in what is to be found, with the answers they call for.

    Attributes:
        clean, corrupt: prompts in the same order, as text or as token ids; a pair has one token length. Ids that are
            padded come with their mask, as `model.tokens(ids, attention_mask=mask)`.
        answer: what the clean prompt calls for, as it continues the prompt (" Paris", space included), or its ids.
        distractor: what the corrupt prompt calls for; None where no metric needs it.
        groups: which pairs share a template, for intervals clustered by it.

    Raises:
        PairError: the parts differ in number.

    >>> pairs = Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> len(pairs)
    1
    """

    clean: Sequence[str] | Tensor | Tokens
    corrupt: Sequence[str] | Tensor | Tokens
    answer: Answers
    distractor: Answers | None = None
    groups: Sequence[int | str] | None = None

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in (*_FIELDS, "groups")}
        counts = {name: len(part) for name, part in parts.items() if part is not None}
        if len(set(counts.values())) != 1 or not len(self.clean):
            raise PairError(f"pairs need one clean, one corrupt prompt and one answer each, got {counts}")

    def __len__(self) -> int:
        return len(self.clean)

    @classmethod
    def from_jsonl(cls, path: str | Path) -> Pairs:
        """Read pairs from JSON lines with the fields clean, corrupt, answer and, optionally, distractor and group.

        Prompts and answers are text or lists of token ids; an answer or distractor may be one id.

        Raises:
            PairError: the file cannot be read, a line is not a JSON object, a field is missing from some lines or is
                not of a kind that pairs take; the file and the line are named.
        """
        path = Path(path)
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise PairError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise PairError(f"{path}, line {number}: not an object with the fields clean, corrupt and answer")
            missing = [name for name in ("clean", "corrupt", "answer") if name not in row]
            if missing or (rows and row.keys() & {"distractor", "group"} != rows[0].keys() & {"distractor", "group"}):
                raise PairError(f"{path}, line {number}: lacks {missing or 'a field that the first line has'}")
            for name in row.keys() & {*_FIELDS, "group"}:
                if not _fits(name, row[name]):
                    raise PairError(f"{path}, line {number}: {name} must be {_KINDS[name]}, and is {row[name]!r}")
            rows.append(row)
        if not rows:
            raise PairError(f"{path} holds no pairs")
        parts = {name: [row[name] for row in rows] for name in _FIELDS if name in rows[0]}
        return cls(**parts, groups=[row["group"] for row in rows] if "group" in rows[0] else None)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Pairs:
        """Take pairs from a data frame with the columns clean, corrupt, answer and, optionally, distractor and group.

        Cells are what `Pairs` takes a row of: text, or token ids.

        Raises:
            PairError: the frame has no rows, lacks a column, or a cell is missing; the row is named.

        >>> import pandas
        >>> frame = pandas.DataFrame({"clean": ["a b"], "corrupt": ["a c"], "answer": [" d"], "other": [1]})
        >>> Pairs.from_frame(frame).clean
        ['a b']
        """
        if missing := [name for name in ("clean", "corrupt", "answer") if name not in frame]:
            raise PairError(f"the frame lacks the columns {missing}; it has {list(frame.columns)}")
        if not len(frame):
            raise PairError("the frame holds no pairs")
        columns = [name for name in (*_FIELDS, "group") if name in frame]
        for row, absent in zip(frame.index, frame[columns].isna().to_numpy(), strict=True):
            if lacking := [name for name, missing in zip(columns, absent, strict=True) if missing]:
                raise PairError(f"row {row} of the frame has no {lacking}")
        parts = {name: frame[name].tolist() for name in columns}
        groups = parts.pop("group", None)
        return cls(**parts, groups=groups)

    def _says(self) -> list[str]:
        n = len(self)
        groups = "" if self.groups is None else f" in {len(set(self.groups))} groups"
        return [f"{n} pair{'s' * (n != 1)} of a clean and a corrupt prompt{groups}."]

    def _strongest(self) -> pd.DataFrame:
        import pandas as pd

        parts = {name: getattr(self, name) for name in (*_FIELDS, "groups")}
        told = {name: list(map(_said, part)) for name, part in parts.items() if part is not None}
        beside = [_where_they_differ(*each) for each in zip(told["clean"], told["corrupt"], strict=True)]
        told["clean"], told["corrupt"] = (list(each) for each in zip(*beside, strict=True))
        for name in {"answer", "distractor"} & told.keys():
            # The space before a word is of its token.
            told[name] = [repr(_said(each)) if isinstance(each, str) else _said(each) for each in parts[name]]
        return pd.DataFrame(told)

    def __repr__(self) -> str:
        others = [name for name in ("distractor", "groups") if getattr(self, name) is not None]
        n = len(self)
        return f"Pairs({n} pair{'s' * (n != 1)}: clean, corrupt, {', '.join(['answer', *others])})"

    def on(self, model: Model, *, unequal: bool = False) -> AlignedPairs:
        """Tokenise the pairs for a model and align each.

        Args:
            model: the model.
            unequal: take a pair whose prompts differ in token length, whose rows then do not correspond position by
                position: who asks for it aligns them.

        Raises:
            PairError: a pair's prompts differ in token length, an answer merges with its prompt's last token, is not
                made of token ids, or has one that the model's vocabulary lacks.
            PromptError: see `Model.tokens`.
        """
        clean, corrupt = model.tokens(self.clean), model.tokens(self.corrupt)
        for row in [] if unequal else (clean.lengths != corrupt.lengths).nonzero().flatten().tolist():
            raise PairError(
                f"pair {row} has a clean prompt of {int(clean.lengths[row])} tokens and a corrupt one of "
                f"{int(corrupt.lengths[row])}, so their positions do not correspond; change words for words of as many "
                f"tokens\n  clean:   {prompt_text(model, clean, row)}\n  corrupt: {prompt_text(model, corrupt, row)}"
            )
        answer = _answer_ids(model, "answer", self.answer, self.clean, clean)
        distractor = None
        if self.distractor is not None:
            distractor = _answer_ids(model, "distractor", self.distractor, self.clean, clean)
        texts = tuple(self.answer) if all(isinstance(each, str) for each in self.answer) else None
        return AlignedPairs(clean, corrupt, Targets(answer, distractor, None, texts), _numbered(self.groups))


@dataclass(frozen=True, eq=False, repr=False)
class AlignedPairs(Shown):
    """Pairs as one model reads them: token batches whose rows correspond position by position."""

    clean: Tokens
    corrupt: Tokens
    targets: Targets
    groups: Int[Tensor, " pair"] | None = None

    def _says(self) -> list[str]:
        return [f"Clean: {self.clean._says()[0]}", f"Corrupt: {self.corrupt._says()[0]}"]

    def labels(self, model: Model) -> tuple[str, ...]:
        """What stands at each position: the clean token, or "~" and the first pair's where pairs differ.

        Raises:
            PairError: pairs of different lengths have no common positions.
        """
        lengths = self.clean.lengths
        if int(lengths.min()) != int(lengths.max()):
            raise PairError(
                f"pairs of {int(lengths.min())} to {int(lengths.max())} tokens have no common positions: give pairs of "
                "one length, or name positions counted from the end, such as positions=[-3, -2, -1]"
            )
        columns = self.clean.ids[self.clean.mask].view(len(self.clean), -1).T.tolist()
        return tuple(f"{'' if len(set(column)) == 1 else '~'}{token_text(model, column[0])}" for column in columns)


@dataclass(frozen=True, eq=False)
class Reading:
    """A batch as a metric reads it: with the answer's tokens behind the prompt where it reads them too.

    Attributes:
        tokens: the prompts, or the prompts and all answer tokens but the last.
        columns: whose logits are read.
        first_row: the first row's number in the batch that these are a part of.
    """

    tokens: Tokens
    columns: Int[Tensor, "batch reads"]
    first_row: int = 0

    @classmethod
    def of(cls, prompts: Tokens, targets: Targets, metric: Metric) -> Reading:
        """The batch that a metric reads for these prompts and answers."""
        if metric.positions == "last" or targets.answer.shape[1] == 1:
            return cls(prompts, prompts.columns(-1)[:, None])
        answers = [[token for token in row if token != PADDING] for row in targets.answer.tolist()]
        rows = [
            ids[mask].tolist() + answer[:-1]
            for ids, mask, answer in zip(prompts.ids, prompts.mask, answers, strict=True)
        ]
        width = max(map(len, rows))
        fill = int(prompts.ids[0, 0])
        ids = torch.tensor([[fill] * (width - len(row)) + row for row in rows], device=prompts.ids.device)
        mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows], device=ids.device)
        tokens = Tokens(ids, mask)
        starts = width - torch.tensor([len(answer) for answer in answers], device=ids.device)
        steps = torch.arange(targets.answer.shape[1], device=ids.device)
        # Behind a shorter answer there is nothing to read; its last column stands in and the metric drops it.
        return cls(tokens, (starts[:, None] + steps).clamp(max=width - 1))

    def part(self, rows: slice) -> Reading:
        """Some rows of the batch."""
        return Reading(Tokens(self.tokens.ids[rows], self.tokens.mask[rows]), self.columns[rows], rows.start)


def token_text(model: Model, token: int) -> str:
    """A token as text, or its id where there is no tokenizer."""
    return f"{token}" if model.tokenizer is None else str(model.tokenizer.decode([token]))


def prompt_text(model: Model, tokens: Tokens, row: int) -> str:
    """A row's prompt, token by token."""
    return " | ".join(token_text(model, int(token)) for token in tokens.ids[row][tokens.mask[row]])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise PairError(f"{path}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except OSError as error:
        raise PairError(f"{path} cannot be read: {error.strerror or error}") from error


def _fits(name: str, value: object) -> bool:
    """Whether a field of a line is of a kind that pairs take."""
    is_id = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, str) or (is_id and name not in ("clean", "corrupt")):
        return True
    ids = isinstance(value, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    return ids and bool(value) and name != "group"


def _answer_ids(
    model: Model, name: str, answers: Answers, prompts: Any, tokens: Tokens
) -> Int[Tensor, "pair answer_len"]:
    rows: list[list[int]] = []
    each: Any = answers.tolist() if isinstance(answers, Tensor | np.ndarray) else answers
    for row, answer in enumerate(each):
        if isinstance(answer, str):
            rows.append(_continuation(model, row, answer, prompts, tokens))
        else:
            rows.append(_ids_in(model, f"the {name} of pair {row}", answer))
    width = max(map(len, rows))
    return torch.tensor([row + [PADDING] * (width - len(row)) for row in rows], device=tokens.ids.device)


def _ids_in(model: Model, whose: str, answer: Any) -> list[int]:
    """An answer given as token ids, alone or in a row, with nothing behind it."""
    listed = answer.tolist() if isinstance(answer, Tensor | np.ndarray) else answer
    try:
        ids = [operator.index(token) for token in (listed if np.iterable(listed) else [listed])]
    except TypeError as error:
        raise PairError(f"{whose} must be text, a token id or a row of token ids, and is {answer!r}") from error
    while ids and ids[-1] == PADDING:
        ids.pop()
    if not ids:
        raise PairError(f"{whose} has no tokens; give every pair at least one")
    n = int(model.hf.get_input_embeddings().weight.shape[0])
    for token in ids:
        if not 0 <= token < n:
            raise PairError(f"{whose} holds the token id {token}, and {model.name} has the ids 0 to {n - 1}")
    return ids


def _continuation(model: Model, row: int, answer: str, prompts: Any, tokens: Tokens) -> list[int]:
    """An answer's tokens as they stand behind its prompt."""
    if model.tokenizer is None:
        raise PairError(f"the answer {answer!r} is text, but the model has no tokenizer: give token ids")
    if not isinstance(prompts[row], str):
        return [int(token) for token in model.tokenizer(answer, add_special_tokens=False)["input_ids"]]
    before = tokens.ids[row][tokens.mask[row]].tolist()
    both = list(model.tokenizer(prompts[row] + answer)["input_ids"])
    # Some tokenizers close a text with a special token, which an answer in the middle of one does not have.
    if before and before[-1] in model.tokenizer.all_special_ids and both[-1:] == before[-1:]:
        before, both = before[:-1], both[:-1]
    if both[: len(before)] != before or len(both) == len(before):
        raise PairError(
            f"the answer {answer!r} of pair {row} merges with its prompt's last token: begin it where a token begins, "
            f"as a rule with a space ({' ' + answer.strip()!r})"
        )
    return both[len(before) :]


def _where_they_differ(clean: str, corrupt: str) -> tuple[str, str]:
    """Two prompts from shortly before the first word that differs, where they are long before it."""
    one, other = clean.split(" "), corrupt.split(" ")
    first = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = first - _WORDS_BEFORE
    if start < _WORDS_BEFORE:
        return clean, corrupt
    return f"… {' '.join(one[start:])}", f"… {' '.join(other[start:])}"


def _said(part: Any) -> str:
    """A prompt or an answer as it was given: text, or token ids."""
    if isinstance(part, Tokens):
        part = part.ids[0][part.mask[0]]
    return str(part.tolist() if isinstance(part, Tensor | np.ndarray) else part)


def _numbered(groups: Sequence[int | str] | None) -> Int[Tensor, " pair"] | None:
    if groups is None:
        return None
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return torch.tensor([numbers[group] for group in groups])
