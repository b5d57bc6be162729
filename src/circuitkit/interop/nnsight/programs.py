"""What a trace does: edits and captures of many cells, as steps in the order in which the model comes to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from circuitkit.interop.nnsight.limits import EngineError
from circuitkit.interop.nnsight.recipes import Plain, Recipe
from circuitkit.interop.nnsight.structure import linear_width, width_of
from circuitkit.model.points import Columns, Heads, Point, View, Whole
from circuitkit.model.site import ATTENTION_KINDS, KEY_VALUE_KINDS, Site
from circuitkit.model.tokens import Pass, Tokens

if TYPE_CHECKING:
    from circuitkit.interop.nnsight.engine import NnsightModel

Program = list[Plain]
_End = tuple[str, str]


@dataclass
class _Act:
    """What happens to one site's tensor."""

    site: Site
    edits: list[Plain] = field(default_factory=list)
    keeps: list[Plain] = field(default_factory=list)


class Programs:
    """Writes the programs of one model."""

    def __init__(self, model: NnsightModel) -> None:
        self.model = model
        self._paths: dict[nn.Module, str] = {module: path for path, module in model.hf.named_modules()}

    def of(
        self, recipes: Sequence[tuple[int, Recipe]], captures: Sequence[Site], tokens: Tokens | None, now: Pass
    ) -> Program:
        """The program of one pass.

        Args:
            recipes: interventions in the order in which they hold, each with the number of its cell.
            captures: what is kept, by its own text.
            tokens: the batch that positions to keep are columns of; None where nothing is kept.
            now: the pass over one cell's rows.
        """
        acts: dict[Site, _Act] = {}
        rows = len(now.tokens_mask)
        for number, (cell, recipe) in enumerate(recipes):
            site = recipe.site
            if (told := recipe.told(self.shape(site, now), self.model.dtype, now)) is None:
                continue
            told |= {"rows": (cell * rows, (cell + 1) * rows), "note": f"silenced {number}"}
            acts.setdefault(site.place, _Act(site.place)).edits.append(told)
            if recipe.intervention.operation == "knockout":
                pattern = site.place.at(kind="pattern")
                emptying = {**told, "operation": "empty", "operand": None}
                acts.setdefault(pattern, _Act(pattern)).edits.append(emptying)
        for site in captures:
            assert tokens is not None  # captures are made of prompts
            acts.setdefault(site.place, _Act(site.place)).keeps.append(_kept(site, tokens))
        return self._in_order(list(acts.values()), now)

    def shape(self, site: Site, now: Pass) -> tuple[int, ...]:
        """The shape of a whole site in a pass over one cell's rows.

        Raises:
            EngineError: it is a module's, whose shape cannot be told from here.
        """
        rows, columns = len(now.tokens_mask), now.n_queries
        if site.module is not None:
            point = self.model.point(site)
            path = self._paths[point.module]
            width = width_of(self.model.hf, self.model.structure, path, point.end, self.model.d_model)
            if width is None:
                raise EngineError(f"{site}: what {path} takes or returns is not [batch, position, width], or unknown")
            return rows, columns, width
        if site.kind == "embed" or site.layer is None:
            return rows, columns, self.model.d_model
        layer = self.model.layers[site.layer]
        if site.kind in ATTENTION_KINDS:
            return rows, layer.n_heads or 0, columns, now.tokens_mask.shape[1]
        if site.kind in ("q", "k", "v", "z"):
            count = layer.n_kv_heads if site.kind in KEY_VALUE_KINDS else layer.n_heads
            return rows, columns, count or 0, self._d_head(site)
        return rows, columns, self.model.d_model

    def _d_head(self, site: Site) -> int:
        point = self.model.point(site)
        if isinstance(point.view, Columns):
            return len(point.view.index) // point.view.n_heads
        width = linear_width(point.module, point.end)
        assert isinstance(point.view, Heads) and width is not None  # the structure has counted them by it
        return width // point.view.n_heads

    def _in_order(self, acts: list[_Act], now: Pass) -> Program:
        steps: dict[_End, Plain] = {}
        received: list[tuple[_End, Plain]] = []
        for act in acts:
            point = self.model.point(act.site)
            end = self._end(act.site, point)
            step = steps.setdefault(end, self._step(end, act.site))
            middle = None
            if act.site.kind == "resid_mid" and act.edits:
                assert act.site.layer is not None
                middle = self._paths[self.model.anatomy.blocks[act.site.layer].block]
                received.append(((middle, "output"), _act(receives=middle)))
            keys = now.tokens_mask.shape[1]
            view = ("attention", keys) if act.site.kind in ATTENTION_KINDS else _plain(point.view)
            step["acts"].append(_act(view=view, edits=act.edits, keeps=act.keeps, middle=middle))
        for end, receiving in received:
            # Before whatever else is done there, since all that reads the stream reads the change.
            steps.setdefault(end, self._step(end, None))["acts"].insert(0, receiving)
        return [steps[end] for end in sorted(steps, key=self._rank)]

    def _end(self, site: Site, point: Point) -> _End:
        path = self._paths[point.module]
        return (path, str(site.kind)) if site.kind in ATTENTION_KINDS else (path, point.end)

    def _step(self, end: _End, site: Site | None) -> Plain:
        path, attribute = end
        softmax = self.model.softmax_of(path) if attribute in ATTENTION_KINDS else ()
        if path in self.model.structure.often:
            raise EngineError(f"{site}: {path} is called more than once in a forward, and nnsight would meet one call")
        if not softmax and end not in self.model.structure.ranks:
            raise EngineError(f"{site}: a forward never comes to {path}, as far as the config tells")
        return {"path": path, "end": attribute, "softmax": softmax, "acts": []}

    def _rank(self, end: _End) -> float:
        path, attribute = end
        ranks = self.model.structure.ranks
        if attribute not in ATTENTION_KINDS:
            return ranks[end]
        block = next(block for block in self.model.anatomy.blocks if block.attn and self._paths[block.attn] == path)
        assert block.o is not None  # scores are refused where there is none
        return ranks[self._paths[block.o], "input"] - (0.6 if attribute == "scores" else 0.5)


def _act(**told: Any) -> Plain:
    return {"view": None, "edits": [], "keeps": [], "middle": None, "receives": None, **told}


def _plain(view: View) -> tuple[Any, ...]:
    if isinstance(view, Heads):
        return ("heads", view.n_heads)
    if isinstance(view, Columns):
        return ("columns", view.index, view.n_heads)
    assert isinstance(view, Whole)
    return ("whole", view.multiplier)


def _kept(site: Site, tokens: Tokens) -> Plain:
    attention = site.kind in ATTENTION_KINDS
    return {
        "name": str(site),
        "head": site.head,
        "head_axis": 1 if attention else 2,
        "columns": _columns(site.position, tokens),
        "column_axis": 2 if attention and site.head is None else 1,
        "keys": _columns(site.key, tokens),
    }


def _columns(position: int | None, tokens: Tokens) -> Tensor | None:
    return None if position is None else tokens.columns(position).to(torch.long)
