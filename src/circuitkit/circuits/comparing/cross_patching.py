"""A head of one model in the place of the same head of another: what it writes there, on the same prompts, put here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit import metrics, statistics
from circuitkit.ablation.head_sites import head_of, head_sites
from circuitkit.circuits.attributing.linear_maps import check_whole, matrix_of
from circuitkit.circuits.comparing.comparable import called
from circuitkit.circuits.comparing.margins import rank_p
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.resampling import Resampling, ratio_of_means
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Compute, Metric, as_metric
from circuitkit.model.points import Heads
from circuitkit.model.site import Site
from circuitkit.model.tokens import Tokens
from circuitkit.pairs import Pairs
from circuitkit.random_sets import RandomSets, Sites
from circuitkit.records import provenance
from circuitkit.run.interventions import Intervention, add, replace, zero
from circuitkit.showing import Shown
from circuitkit.statistics import Head
from circuitkit.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

What = Literal["write", "z"]


@dataclass(frozen=True, eq=False, repr=False)
class CrossPatch(Shown):
    """What heads of one model do in another.

    Attributes:
        names: of the sets of heads.
        sets: their heads.
        directions: "base + post" (heads of the post-trained model in the base) and "post + base".
        receiving: what each direction's model measures by itself, and `giving`, what the other one does.
        patched: what it measures with each set.
        controls: the mean effects of random sets in the place of each, NaN behind the last.
        metric, unit: what is measured.
        groups: which examples belong together.
        provenance: where it comes from.
    """

    names: tuple[str, ...]
    sets: tuple[tuple[Head, ...], ...]
    directions: tuple[str, ...]
    receiving: Float[Tensor, "direction example"]
    giving: Float[Tensor, "direction example"]
    patched: Float[Tensor, "direction set example"]
    controls: Float[Tensor, "direction set draw"]
    metric: str
    unit: str
    groups: tuple[int, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row a direction and set: what the receiving model does alone, with the heads, and the giving model does.

        `effect` is patched less alone, with a bootstrap's 95 % interval and the p of a sign-flip test, corrected over
        all rows by Holm; `share` the part of the way to the giving model (the ratio of means, with its interval: NaN
        where both models do the same). `controls` random sets stand beside it: their mean effect, the middle 95 %, and
        `p_controls`, two-sided from the effect's rank among them.
        """
        rows = [
            self._row(direction, one) for direction in range(len(self.directions)) for one in range(len(self.names))
        ]
        frame = pd.DataFrame(rows)
        for name in ("p", "p_controls"):
            frame[f"{name}_corrected"] = statistics.holm(frame[name])
        return frame

    def _row(self, direction: int, one: int) -> dict[str, Any]:
        alone, other = (each[direction].double().numpy() for each in (self.receiving, self.giving))
        effects = self.patched[direction, one].double().numpy() - alone
        row: dict[str, Any] = {
            "direction": self.directions[direction],
            "set": self.names[one],
            "heads": len(self.sets[one]),
            "alone": float(alone.mean()),
            "giving": float(other.mean()),
            "patched": float(alone.mean() + effects.mean()),
            "effect": float(effects.mean()),
        }
        low = high = share_low = share_high = p = float("nan")
        share = float(effects.mean() / (other - alone).mean()) if (other - alone).any() else float("nan")
        if len(set(self.groups or range(len(effects)))) > 1:
            drawn = Resampling.of(len(effects), self.groups, 2000, seed=0)
            found = drawn.estimates(lambda weights: (weights @ effects / weights.sum(1))[:, None])
            low, high = float(found.low[0]), float(found.high[0])
            of_way = drawn.estimates(ratio_of_means(effects[None], other - alone))
            share_low, share_high = float(of_way.low[0]), float(of_way.high[0])
            p = float(statistics.sign_flip_test(effects[None], seed=0, groups=self.groups).p[0])
        row |= {"low": low, "high": high, "p": p, "share": share, "share_low": share_low, "share_high": share_high}
        beside = self.controls[direction, one].double().numpy()
        return row | _among(float(effects.mean()), beside[~np.isnan(beside)])

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw each set's effect in each direction, beside its random sets."""
        from circuitkit import plots

        frame = self.frame
        beside = bool(frame["controls"].any())
        interval = (frame["low"].to_numpy(), frame["high"].to_numpy())
        columns = [frame[f"control_{name}"].to_numpy() for name in ("mean", "low", "high")]
        return plots.bars(
            frame["effect"].to_numpy(),
            labels=[f"{row['direction']}: {row['set']}" for row in frame.to_dict("records")],
            title="Heads of one model in the other",
            unit=f"effect on {self.metric}{f' ({self.unit})' if self.unit else ''}",
            name="direction and heads",
            interval=None if np.isnan(interval).any() else interval,
            controls=columns[0] if beside else None,
            control_interval=(columns[1], columns[2]) if beside else None,
            axes=axes,
        )

    def __str__(self) -> str:
        told = []
        for row in self.frame.to_dict("records"):
            way = "" if np.isnan(row["share"]) else f", {100 * row['share']:.0f} % of the way to the giving model"
            beside = (
                f"; random sets {row['control_mean']:+.3f} ({row['controls']} of them; p {row['p_controls']:.3f})"
                if row["controls"]
                else "; no other heads match them"
            )
            told.append(
                f"{row['direction']}, {row['set']}: {self.metric} {row['alone']:.3f} to {row['patched']:.3f}"
                f"{way}{beside}"
            )
        return "\n".join(told)


def _among(effect: float, beside: Float[np.ndarray, " draw"]) -> dict[str, Any]:
    if not len(beside):
        nan = float("nan")
        return {"controls": 0, "control_mean": nan, "control_low": nan, "control_high": nan, "p_controls": nan}
    low, high = np.quantile(beside, [0.025, 0.975])
    means = {"control_mean": float(beside.mean()), "control_low": float(low), "control_high": float(high)}
    return {"controls": len(beside), **means, "p_controls": rank_p(effect, beside)}


def cross_patch(
    base: Model,
    post: Model,
    pairs: Pairs,
    heads: Sequence[Head] | Mapping[str, Sequence[Head]],
    metric: Metric | Compute | str | None = None,
    *,
    what: What = "write",
    controls: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> CrossPatch:
    """Put what heads write in one model into the other, at the same place on the same prompts; and the other way round.

    Clean prompts are run through both models. With `what="write"` a head's own part is taken out of what its layer's
    output projection makes, and the other model's part, its `z` through its own weights, is put there: at all
    positions, several heads at once, before what follows the projection (a norm, a multiplier), which is the receiving
    model's own. With `what="z"` only the head's `z` is moved, and the receiving model's weights write it.

    Args:
        base, post: models of one architecture that read alike.
        pairs: whose clean prompts and answers are used.
        heads: each head by itself; or sets of heads by name, each set at once.
        metric: by default the logit difference of pairs with a distractor, otherwise the answer's log-probability.
        what: what is moved.
        controls: random sets with as many heads in each layer, beside each; fewer where there are no more.
        seed: of these.
        progress: show a bar.

    Raises:
        CircuitError: the models differ in architecture or width, read text differently, or there are no heads.
        SiteError: a head does not exist.

    >>> pairs = ck.tasks.deductions.pairs(ck.load("deductor-130k").tokenizer, n=4)
    >>> twins = ck.load("deductor-130k-base"), ck.load("deductor-130k")
    >>> found = cross_patch(*twins, pairs, [(2, 1)], controls=2, progress=False)
    >>> found.frame[["direction", "set"]].values.tolist()
    [['base + post', 'L2H1'], ['post + base', 'L2H1']]
    """
    if what not in ("write", "z"):
        raise CircuitError(f"what heads hand over is their 'write' or their 'z', not {what!r}")
    check_same_reading(base, post, pairs)
    named = _named(base, heads)
    measured = _metric(pairs, metric)
    clean = Pairs(pairs.clean, pairs.clean, pairs.answer, pairs.distractor, pairs.groups)
    random = RandomSets.beside(base, list(named.values()), controls, seed)
    every = [*random.sets, *random.others]
    sites = list(dict.fromkeys(site for one in every for site in one))
    studies = [Study.of_prompts(model, clean, measured) for model in (base, post)]
    writes = [_written(study, sites, what) for study in studies]
    alone, patched, beside = [], [], []
    for to, given, title in ((0, 1, "post in base"), (1, 0, "base in post")):
        values = _patched(studies[to], every, writes[given], what, title, progress)
        alone.append(studies[to].baseline.clean.float().cpu())
        effects = (values - alone[-1]).mean(-1)
        patched.append(values[: len(named)])
        beside.append(random.controls(effects[: len(named)], effects[len(named) :]))
    return CrossPatch(
        tuple(named),
        tuple(tuple(map(head_of, one)) for one in random.sets),
        ("base + post", "post + base"),
        torch.stack(alone),
        torch.stack(alone[::-1]),
        torch.stack(patched),
        torch.stack(beside),
        measured.name,
        measured.unit,
        None if studies[0].groups is None else tuple(studies[0].groups.tolist()),
        provenance(
            model_name=f"{base.name} and {post.name}",
            data=studies[0].clean.ids,
            seed=seed,
            study="circuits.cross_patch",
            what=what,
            disjoint=list(random.disjoint),
        ),
    )


def check_same_reading(base: Model, post: Model, pairs: Pairs) -> None:
    """Refuse models of other architectures, or that read the pairs' prompts as other tokens.

    Raises:
        CircuitError: they do; what differs is named.
    """
    check_same(Layout.of(base), Layout.of(post), post.name)
    for name in ("d_model", "vocabulary"):
        ours, theirs = getattr(base, name), getattr(post, name)
        if ours != theirs:
            raise CircuitError(f"models of other shapes: {name} is {ours} in {base.name} and {theirs} in {post.name}")
    widths = [[layer.d_head for layer in model.layers] for model in (base, post)]
    if widths[0] != widths[1]:
        raise CircuitError(f"models of other shapes: heads of {base.name} have other widths than those of {post.name}")
    ours, theirs = (model.tokens(pairs.clean) for model in (base, post))
    for row, (one, other) in enumerate(zip(_rows(ours), _rows(theirs), strict=True)):
        if one != other:
            raise CircuitError(
                f"{base.name} and {post.name} read prompt {row} as other tokens, so positions do not correspond: "
                "compare models with one tokenizer, or give prompts as token ids"
            )


def _rows(tokens: Tokens) -> list[list[int]]:
    return [ids[mask].tolist() for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]


def _named(model: Model, heads: Sequence[Head] | Mapping[str, Sequence[Head]]) -> dict[str, Sites]:
    if isinstance(heads, Mapping):
        named = {name: tuple(head_sites(model, each)) for name, each in heads.items()}
    else:
        named = {called(head_of(site)): (site,) for site in head_sites(model, heads)}
    if not named or not all(named.values()):
        raise CircuitError("there are no heads to move: name some, such as [(2, 1)] or {'emergent': [(2, 1), (3, 0)]}")
    return named


def _metric(pairs: Pairs, metric: Metric | Compute | str | None) -> Metric:
    measured = as_metric(metric or (metrics.log_probability if pairs.distractor is None else metrics.logit_difference))
    if measured.needs_clean:
        raise CircuitError(
            f"{measured.name} holds a run against the model's own clean one, so two models have nothing in common to "
            "measure by it: take logit_difference, log_probability, or a function of logits"
        )
    return measured


def _written(study: Study, sites: Sequence[Site], what: What) -> dict[Site, Float[Tensor, "batch position _"]]:
    """What each head's projection makes of its `z` in a model's own run, or its `z`."""
    model, tokens = study.model, study.tokens
    kept = model.run(tokens, capture=sites, logits_at=-1).cache
    if what == "z":
        return {site: kept[site] for site in sites}
    check_whole(model)
    return {site: kept[site].to(torch.float32) @ _weight(model, site).to(torch.float32) for site in sites}


def _weight(model: Model, site: Site) -> Float[Tensor, "d_head d_model"]:
    point = model.point(site)
    layer, head = head_of(site)
    d_head = model.layers[layer].d_head
    assert isinstance(point.view, Heads) and d_head is not None  # a layout was made of the model
    matrix = matrix_of(point.module, point.view.n_heads * d_head, model.hf.dtype).T
    return matrix[head * d_head : (head + 1) * d_head]


def _patched(
    study: Study,
    sets: Sequence[Sites],
    given: Mapping[Site, Tensor],
    what: What,
    title: str,
    progress: bool,
) -> Float[Tensor, "set example"]:
    cells = [_moved(study.model, one, given, what) for one in sets]
    values = study.measured(cells, title, progress)
    return values.float().cpu()


def _moved(model: Model, sites: Sites, given: Mapping[Site, Tensor], what: What) -> list[Intervention]:
    if what == "z":
        return [replace(site, given[site]) for site in sites]
    moved: list[Intervention] = []
    for site in sites:
        moved += [zero(site), add(_after_projection(model, site), given[site].to(model.hf.dtype))]
    return moved


def _after_projection(model: Model, site: Site) -> Site:
    """What leaves the output projection that a head writes through."""
    module = model.point(site).module
    path = next((name for name, each in model.hf.named_modules() if each is module), None)
    if path is None:
        raise CircuitError(f"the output projection of {site} has no name in {model.name}: move what='z'")
    return Site(module=path, end="output")
