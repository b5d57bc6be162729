"""What a layer's stream would say if it were the last, and what each part of the stream says in the end."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.metrics import PADDING
from circuitkit.model.ending import Watch, close, wide
from circuitkit.model.points import Whole
from circuitkit.model.site import Kind, Site, SiteError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import PairError, Pairs, token_text
from circuitkit.run.here import require_modules
from circuitkit.run.interventions import replace
from circuitkit.run.resume import resumed, whole_runs_only
from circuitkit.showing import Shown
from circuitkit.statistics import bootstrap_mean

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True, eq=False, repr=False)
class LogitLens(Shown):
    """What each layer's stream says through the model's own ending.

    Attributes:
        layers: the layers.
        logits: at one position of each prompt, or at all columns.
        frame: a row a layer and prompt (and column): the most likely token, its text and its probability.
    """

    layers: tuple[int, ...]
    logits: Float[Tensor, "layer batch *column vocab"]
    frame: pd.DataFrame

    def _says(self) -> list[str]:
        n, layers = self.logits.shape[1], len(self.layers)
        return [
            f"The likeliest next token by each of {layers} layer{'s' * (layers != 1)} on {n} prompt{'s' * (n != 1)}, "
            "and its probability."
        ]

    def _strongest(self) -> pd.DataFrame:
        places = [name for name in ("prompt", "position") if name in self.frame]
        return self.frame.sort_values([*places, "layer"], kind="stable")

    def ranks(self, tokens: Int[Tensor, " batch"]) -> Int[Tensor, "layer batch *column"]:
        """How many tokens each layer finds likelier than one given for each prompt; 0 where it comes first."""
        index = tokens.to(self.logits.device).view(1, -1, *(1 for _ in self.logits.shape[2:]))
        own = self.logits.gather(-1, index.expand(*self.logits.shape[:-1], 1))
        return (self.logits > own).sum(-1)


def logit_lens(
    model: Model, prompts: Prompts | Tokens, layers: Iterable[int] | None = None, *, position: int | None = -1
) -> LogitLens:
    """Read each layer's stream as if it were the last: through the model's own final norm, unembedding and soft-cap.

    Args:
        model: the model.
        prompts: the prompts.
        layers: whose `resid_post`; all if None.
        position: at which token; all columns if None.

    Raises:
        EngineError: another engine runs the model.
        SiteError: a layer does not exist.
        PromptError: a prompt has no such position.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens".

    >>> model = ck.load("deductor-130k")
    >>> lens = logit_lens(model, "Every wumpus is a dumpus.")
    >>> torch.equal(lens.logits[-1], model.run("Every wumpus is a dumpus.", logits_at=-1).logits)
    True
    """
    require_modules(model)
    tokens, last = model.tokens(prompts), model.n_layers - 1
    if layers is None:
        layers = range(model.n_layers)
    sites = [model.sites(Site("resid_post", layer=layer))[0] for layer in layers]
    entering = Site("resid_pre", layer=last)
    kept = model.run(tokens, capture=[entering, *sites], logits_at=-1).cache
    read = []
    for site in sites:
        whole = whole_runs_only(model) is not None
        with nullcontext() if whole else resumed(model, last, kept[entering]):
            put = replace(Site("resid_post", layer=last), kept[site])
            read.append(model.run(tokens, [put], logits_at=position).logits)
    numbers = tuple(int(site.layer or 0) for site in sites)
    logits = torch.stack(read)
    return LogitLens(numbers, logits, _likeliest(model, numbers, logits, tokens))


def _likeliest(model: Model, layers: tuple[int, ...], logits: Tensor, tokens: Tokens) -> pd.DataFrame:
    probability, token = wide(logits).softmax(-1).max(-1)
    rows = []
    for at, layer in enumerate(layers):
        for row in range(len(tokens)):
            columns = [None] if logits.ndim == 3 else tokens.mask[row].nonzero().flatten().tolist()
            for column in columns:
                place = (at, row) if column is None else (at, row, column)
                named = {} if column is None else {"position": int(tokens.positions[row, column])}
                likeliest = int(token[place])
                rows.append(
                    {"layer": layer, "prompt": row, **named, "token": likeliest, "text": token_text(model, likeliest)}
                    | {"probability": float(probability[place])}
                )
    return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False, repr=False)
class DirectLogits(Shown):
    """What each part of the last stream adds to the logit difference, in logits; all parts sum to it.

    Attributes:
        heads: each head's; NaN where a layer has no such head.
        mlps: each MLP's.
        biases: each attention output projection's bias.
        embed: what enters the first layer.
        constant: the final norm's and the unembedding's biases.
        logit_difference: what the model itself gives.
        groups: which examples share a template.
    """

    heads: Float[Tensor, "layer head example"]
    mlps: Float[Tensor, "layer example"]
    biases: Float[Tensor, "layer example"]
    embed: Float[Tensor, " example"]
    constant: Float[Tensor, " example"]
    logit_difference: Float[Tensor, " example"]
    groups: Int[Tensor, " example"] | None = None

    @property
    def total(self) -> Float[Tensor, " example"]:
        """All parts together."""
        layers = self.heads.nan_to_num(0.0).sum((0, 1)) + self.mlps.sum(0) + self.biases.sum(0)
        return layers + self.embed + self.constant

    @property
    def frame(self) -> pd.DataFrame:
        """A row a part: component, layer, head, mean, and its bootstrap interval `low` to `high`."""
        rows: list[tuple[str, int | None, int | None, Tensor]] = [("embed", None, None, self.embed)]
        for layer, heads in enumerate(self.heads):
            named = [("head", layer, head, value) for head, value in enumerate(heads) if not bool(value.isnan().any())]
            rows += [*named, ("bias", layer, None, self.biases[layer]), ("mlp", layer, None, self.mlps[layer])]
        rows.append(("constant", None, None, self.constant))
        values = torch.stack([value for *_, value in rows])
        frame = pd.DataFrame([row[:3] for row in rows], columns=["component", "layer", "head"])
        frame = frame.astype({"layer": "Int64", "head": "Int64"})
        frame["mean"] = values.mean(-1).tolist()
        clusters = values.shape[-1] if self.groups is None else len(set(self.groups.tolist()))
        low, high = bootstrap_mean(values, seed=0, groups=self.groups) if clusters > 1 else (torch.nan, torch.nan)
        frame["low"], frame["high"] = low, high
        return frame

    def _says(self) -> list[str]:
        n, first = len(self.logit_difference), self._strongest().iloc[0]
        interval = "no interval of one example or group"
        if not pd.isna(first["low"]):
            interval = f"95 % interval {first['low']:.3g} to {first['high']:.3g}"
        where = "".join(f" {name} {first[name]}" for name in ("layer", "head") if not pd.isna(first[name]))
        return [
            f"The logit difference is {float(self.logit_difference.mean()):.3g} logits (mean of {n} "
            f"example{'s' * (n != 1)}), the sum of {len(self.frame)} parts. Largest is {first['component']}{where}: "
            f"{first['mean']:.3g} ({interval})."
        ]

    def _strongest(self) -> pd.DataFrame:
        return self.frame.sort_values("mean", key=abs, ascending=False, kind="stable")


def direct_logits(model: Model, pairs: Pairs) -> DirectLogits:
    """Share the logit difference of clean prompts among all that was added to their last token's stream.

    The final norm's scale is held at what it is in the run; through it, the logits are linear in the stream, so every
    part's share is exact and the shares sum to the logit difference.

    Raises:
        EngineError: another engine runs the model.
        PairError: the pairs have no distractors, or answers of several tokens.
        SiteError: the shares would not be exact: a norm or another module stands behind a layer's heads, the logits are
            soft-capped, or the stream holds more than its layers' outputs; the layer or module is named.

    Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; Wang et al. 2022, arXiv 2211.00593.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> shares = direct_logits(ck.load("deductor-130k"), pairs)
    >>> torch.allclose(shares.total, shares.logit_difference, atol=1e-4)
    True
    """
    require_modules(model)
    aligned = pairs.on(model)
    tokens, answer, distractor = aligned.clean, *_single(aligned.targets.answer, aligned.targets.distractor)
    kinds: tuple[Kind, ...] = ("z", "attn_out", "mlp_out")
    layers = range(model.n_layers)
    first, last = Site("resid_pre", layer=0, position=-1), Site("resid_post", layer=model.n_layers - 1, position=-1)
    sites = [model.sites(Site(kind, layer=layer, position=-1))[0] for layer in layers for kind in kinds]
    watch = Watch(model)
    with watch.watching():
        run = model.run(tokens, capture=[first, last, *sites], logits_at=-1)
    rows, logits = torch.arange(len(tokens), device=run.logits.device), wide(run.logits)
    read, constant = watch.ending(tokens.columns(-1), logits).directions(answer, distractor)
    # A model may be spread over several devices; sums are taken where the logits are.
    kept = {site: wide(run.cache[site]).to(read.device) for site in (first, last, *sites) if site.kind != "z"}
    written = kept[first] + sum(kept[site] for site in sites if site.kind != "z")
    if not close(written, kept[last], run.logits.dtype):
        raise SiteError(f"the last stream of {model.name} is not the sum of what its layers add, so it has no shares")
    z, added, mlps = (sites[number :: len(kinds)] for number in range(len(kinds)))
    split = [_heads(model, layer, run.cache[z[layer]], run.cache[added[layer]]) for layer in layers]
    heads = torch.full((model.n_layers, max(len(each) for each, _ in split), len(tokens)), torch.nan, dtype=read.dtype)
    for layer, (each, _) in enumerate(split):
        heads[layer, : len(each)] = (each.to(read.device) * read).sum(-1).cpu()
    return DirectLogits(
        heads,
        torch.stack([(kept[site] * read).sum(-1) for site in mlps]).cpu(),
        torch.stack([(bias.to(read.device) * read).sum(-1) for _, bias in split]).cpu(),
        (kept[first] * read).sum(-1).cpu(),
        constant.cpu(),
        (logits[rows, answer.to(logits.device)] - logits[rows, distractor.to(logits.device)]).cpu(),
        aligned.groups,
    )


def _single(answer: Tensor, distractor: Tensor | None) -> tuple[Tensor, Tensor]:
    if distractor is None:
        raise PairError("direct logits share the difference between two answers: give distractors")
    for ids in (answer, distractor):
        if bool((ids[:, 1:] != PADDING).any()):
            raise PairError("direct logits read one token: give answers and distractors of one token each")
    return answer[:, 0], distractor[:, 0]


def _heads(
    model: Model, layer: int, z: Float[Tensor, "batch head d_head"], added: Float[Tensor, "batch d_model"]
) -> tuple[Float[Tensor, "head batch d_model"], Float[Tensor, " d_model"]]:
    """What each head adds to the stream, and the bias, through the layer's own output projection."""
    project, point = model.anatomy.blocks[layer].o, model.point(Site("attn_out", layer=layer))
    assert project is not None  # the layer has z, which is its input
    multiplier = point.view.multiplier if isinstance(point.view, Whole) else 1.0
    # A process that holds a part of the heads projects those, and the sum over all processes comes back.
    own = model.point(Site("z", layer=layer)).own
    n_heads = z.shape[1]
    alone = z[None] * torch.eye(n_heads, dtype=z.dtype, device=z.device)[:, None, :, None]
    with torch.no_grad():
        bias = wide(project(own(torch.zeros_like(z[:1].flatten(1))[None])))[0, 0]
        outputs = wide(project(own(alone.flatten(-2)))) - bias
    heads, bias = outputs * multiplier, bias * multiplier
    if not close(heads.sum(0) + bias, added, added.dtype):
        raise SiteError(
            f"layer {layer} of {model.name} adds {type(point.module).__name__}'s output to the stream, not the sum of "
            "its heads (a norm stands between), so heads have no shares of their own"
        )
    return heads, bias
