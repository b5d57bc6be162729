"""What runs where the model is: all the code that travels, by its source, with a trace.

Nothing but torch is there, so that nothing else of circuitkit may be named here, and what comes in is plain data. A
program is a list of steps in the order of the computation. A step is one end of one module (of attention, its softmax
within), and the acts on site tensors there:

    path, end       the module and "input", "output", "scores" or "pattern"
    softmax         of attention: the names under which nnsight finds the softmax
    acts            dicts of
        view        how the site's tensor lies in the module's: ("whole", multiplier), ("heads", count),
                    ("columns", index, count) or ("attention", keys)
        edits       dicts of rows, operation, reach and operand
        keeps       dicts of name, and what is selected: head, columns and keys of each row
        middle      a block whose output receives what the edits changed; None
        receives    whether this is that output
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def carry_out(model: Any, program: list[Any]) -> dict[str, Any]:
    """Edit and keep what a program says; returns what was kept, by its name."""
    kept: dict[str, Any] = {}
    notes: dict[str, Any] = {}
    for step in program:
        if step["softmax"]:
            # Source is rewritten when first asked for, which has to be before its forward is under way.
            getattr(model.get(step["path"]), "source")  # noqa: B009  # as a call, which is plainly for its effect
    for step in program:
        place, attribute = place_of(model, step)
        values = getattr(place, attribute)
        whole = first_tensor(values)
        changed = whole
        for act in step["acts"]:
            changed = done(changed, act, kept, notes)
        if changed is not whole:
            setattr(place, attribute, with_first_tensor(values, changed))
    return kept


def place_of(model: Any, step: dict[str, Any]) -> tuple[Any, str]:
    """What nnsight offers at a step, and the attribute that holds its values."""
    place = model.get(step["path"]) if step["path"] else model
    if step["softmax"]:
        for name in step["softmax"]:
            place = getattr(place.source, name)
        return place, "inputs" if step["end"] == "scores" else "output"
    return place, "inputs" if step["end"] == "input" else "output"


def done(whole: Any, act: dict[str, Any], kept: dict[str, Any], notes: dict[str, Any]) -> Any:
    """A module's tensor after one act on a site's."""
    if act["receives"]:
        change = notes.pop(act["receives"], None)
        return whole if change is None else whole + change.to(whole.device)
    part = read(whole, act["view"])
    if act["edits"]:
        edited = part.clone()
        for edit in act["edits"]:
            rows = slice(*edit["rows"])
            edited[rows] = new_values(edited[rows], edit, notes)
        if act["middle"]:
            notes[act["middle"]] = edited - part
        part = edited
        whole = written(whole, part, act["view"])
    for keep in act["keeps"]:
        kept[keep["name"]] = selected(part, keep)
    return whole


def read(whole: Any, view: tuple[Any, ...]) -> Any:
    """A site's tensor within a module's."""
    if view[0] == "whole":
        return whole if view[1] == 1.0 else whole * view[1]
    if view[0] == "heads":
        return whole.unflatten(-1, (view[1], -1))
    if view[0] == "columns":
        return whole.index_select(-1, view[1].to(whole.device)).unflatten(-1, (view[2], -1))
    return whole[..., : view[1]]


def written(whole: Any, part: Any, view: tuple[Any, ...]) -> Any:
    """A module's tensor with a site's put back."""
    if view[0] == "whole":
        return part if view[1] == 1.0 else part / view[1]
    if view[0] == "heads":
        return part.flatten(-2)
    if view[0] == "columns":
        return whole.index_copy(-1, view[1].to(whole.device), part.flatten(-2))
    return torch.cat([part, whole[..., view[1] :]], -1)


def new_values(own: Any, edit: dict[str, Any], notes: dict[str, Any]) -> Any:
    """What an edit makes of its rows."""
    reach, operand, operation = edit["reach"].to(own.device), edit["operand"], edit["operation"]
    if operation == "knockout":
        return knocked_out(own, reach, edit, notes)
    if operation == "empty":
        silenced = notes.pop(edit["note"], None)
        return own if silenced is None else own.masked_fill(silenced, 0.0)
    operand = torch.as_tensor(operand).to(own)
    if operation == "scale":
        operand = own * operand
    elif operation == "add":
        operand = own + operand
    return torch.where(reach, operand, own)


def knocked_out(scores: Any, reach: Any, edit: dict[str, Any], notes: dict[str, Any]) -> Any:
    """Scores without some keys; rows that are left without any are noted, for the pattern to be emptied there."""
    lowest = max(torch.finfo(scores.dtype).min, torch.finfo(torch.float32).min)
    open_before = (scores > lowest / 2).any(-1, keepdim=True)
    scores = scores.masked_fill(reach, lowest)
    notes[edit["note"]] = open_before & ~(scores > lowest / 2).any(-1, keepdim=True)
    return scores


def selected(part: Any, keep: dict[str, Any]) -> Any:
    """What is kept of a site's tensor: one head, one column of each row, one key of each row."""
    if keep["head"] is not None:
        part = part.select(keep["head_axis"], keep["head"])
    # The last axis first, so that the one before keeps its place.
    if keep["keys"] is not None:
        part = column_of_each(part, keep["keys"], part.ndim - 1)
    if keep["columns"] is not None:
        part = column_of_each(part, keep["columns"], keep["column_axis"])
    return part.detach().cpu().clone()


def column_of_each(part: Any, columns: Any, axis: int) -> Any:
    """One column a row, along an axis that is then dropped."""
    index = columns.to(part.device).view(-1, *(1 for _ in range(part.ndim - 1)))
    return part.gather(axis, index.expand_as(part.narrow(axis, 0, 1))).squeeze(axis)


def first_tensor(values: Any) -> Any:
    """The tensor that a module's input or output carries along the stream."""
    if isinstance(values, torch.Tensor):
        return values
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], dict):
        values = (*values[0], *values[1].values())
    return next(value for value in values if isinstance(value, torch.Tensor))


def with_first_tensor(values: Any, new: Any) -> Any:
    """The same structure with that tensor replaced."""
    if isinstance(values, torch.Tensor):
        return new
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], dict):
        args, kwargs = values
        if any(isinstance(value, torch.Tensor) for value in args):
            return with_first_tensor(tuple(args), new), kwargs
        name = next(name for name, value in kwargs.items() if isinstance(value, torch.Tensor))
        return args, {**kwargs, name: new}
    rest = list(values)
    at = next(number for number, value in enumerate(rest) if isinstance(value, torch.Tensor))
    rest[at] = new
    return type(values)(*rest) if hasattr(values, "_fields") else type(values)(rest)


def logits_at(model: Any, where: dict[str, Any] | None) -> Any:
    """Logits of all columns, or of some of each row among those that were computed."""
    logits = model.output.logits
    if where is None:
        return logits
    columns = where["columns"].to(logits.device)
    if where["among"] is not None:
        logits = logits[:, where["among"].to(logits.device)]
    return logits[torch.arange(len(columns), device=logits.device)[:, None], columns]


def run(model: Any, program: list[Any], where: dict[str, Any] | None) -> dict[str, Any]:
    """One run: what was kept, and the logits."""
    kept = carry_out(model, program)
    return {"kept": kept, "logits": logits_at(model, where).detach().cpu()}


def measure(
    model: Any, program: list[Any], where: dict[str, Any] | None, last: bool, compute: Callable[..., Any], targets: Any
) -> dict[str, Any]:
    """One run of stacked cells, reduced to a number a row."""
    carry_out(model, program)
    logits = logits_at(model, where)
    logits = logits[:, 0] if last else logits
    spoilt = bool(torch.isnan(logits).any())
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return {"values": compute(logits, targets.to(logits.device)).detach().cpu(), "spoilt": spoilt}


class Answers:
    """What a metric holds logits against: `circuitkit.metrics.Targets`, where there is no circuitkit."""

    def __init__(self, answer: Any, distractor: Any, clean_logits: Any, answer_text: Any) -> None:
        """Token ids `[batch, answer_len]`, and the clean run's logits where the metric reads them."""
        self.answer, self.distractor = answer, distractor
        self.clean_logits, self.answer_text = clean_logits, answer_text

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.answer)

    def to(self, device: Any) -> Any:
        """The same on another device."""
        return self.mapped(lambda tensor: tensor.to(device), self.answer_text)

    def select(self, rows: Any) -> Any:
        """Some examples, in that order."""
        texts = None if self.answer_text is None else tuple(self.answer_text[int(row)] for row in rows)
        return self.mapped(lambda tensor: tensor[rows.to(tensor.device)], texts)

    def mapped(self, function: Callable[[Any], Any], texts: Any) -> Any:
        """The same with each tensor made anew."""
        tensors = (self.answer, self.distractor, self.clean_logits)
        made = [None if tensor is None else function(tensor) for tensor in tensors]
        return type(self)(made[0], made[1], made[2], texts)

    def describe(self, row: int) -> str:
        """One example's answer."""
        return str(self.answer[row].tolist() if self.answer_text is None else self.answer_text[row])
