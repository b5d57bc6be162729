"""Path patching: what one component tells another directly, everything else frozen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace as with_fields
from itertools import islice
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import HEAD_KINDS, KEY_VALUE_KINDS, Site, SiteError
from circuitkit.pairs import Pairs, Reading
from circuitkit.patching.frozen import FrozenRun, Sites, reaches
from circuitkit.random_sets import RandomSets
from circuitkit.results import Result
from circuitkit.run.here import require_modules
from circuitkit.run.interventions import Intervention
from circuitkit.run.memory import memory, some_at_a_time
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Direction = Literal["denoise", "noise"]
Ends = str | Site | Sequence[str | Site | Sequence[str | Site]]
"""Senders or receivers: each entry a site, or several that act together; an entry's site stands for all its heads."""

_SENDERS = ("embed", "z", "attn_out", "mlp_out")
_RECEIVERS = ("q", "k", "v", "z", "attn_out", "mlp_out", "resid_post")


def paths(
    model: Model,
    pairs: Pairs,
    senders: Ends,
    receivers: Ends,
    metric: Metric | Compute | str = metrics.logit_difference,
    direction: Direction = "denoise",
    *,
    controls: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Patch what senders tell receivers directly, one set of senders and one of receivers at a time.

    The definition, exact and not linearised. Denoising, the base run is on the corrupt prompts and the source run on
    the clean ones; noising, the other way round. All components are frozen at their values in the base run, so that
    the stream that a receiver reads is

        base stream + sum over senders before it of (sender's contribution in the source run - in the base run).

    From it the receiver's value is computed anew, by its own norm and projection. Then the receivers' new values are
    put into a base run, and everything after them is computed as ever. What a sender contributes is what its layer
    adds to the stream, after post-norms and multipliers. Of heads, it is what attention adds when their `z` is the
    source run's and the layer's other heads' the base run's, less what it added in the base run; so where a post-norm
    follows the output projection, heads sent together are not the sum of heads sent alone. MLPs are frozen too, unlike
    in Wang et al., who compute them anew. Receivers of one set do not tell each other: each has the value that the
    senders alone give it; only what the last stream receives is added to what the others make of it.

    Args:
        model: the model.
        pairs: prompts and answers.
        senders: `Site("z", layer, head)` a head, `Site("attn_out", layer)`, `Site("mlp_out", layer)`, and
            `Site("embed")`, which is all that enters the first layer. A site without a head or layer stands for each
            of them in turn; a list of sites is one set that sends together. A position narrows a sender to it.
        receivers: likewise. `Site("q" | "k" | "v", layer, head)` is one input of a head, `k` and `v` with key/value
            heads; `Site("z", layer, head)` the three together; `Site("attn_out", layer)` the inputs of all heads;
            `Site("mlp_out", layer)` the MLP's input; `Site("resid_post", layer=-1)` the last stream, which is the
            direct effect on the logits.
        metric: what is measured; in its own unit.
        direction: "denoise" or "noise".
        controls: how many random sets of senders to set beside each that is made of heads, drawn by the seed, with as
            many heads in each layer, and none of its own where the layers have others enough (the provenance tells; see
            `circuitkit.random_sets.RandomSets`); those that there are if they are fewer; 0 for none. They fill the
            columns `control_*` of `.frame`. The embedding, attention layers and MLPs, and sets with any of them, have
            none. What has been asked for anyway is measured once.
        seed: of the random sets and the statistics, which draw.
        progress: show a bar over the cells.

    Returns:
        A result with the axes `("sender", "receiver")`; NaN where no sender of a set lies before any receiver.

    Raises:
        SiteError: a site does not exist, cannot send or receive, or no sender lies before any receiver.
        ValueError: no senders or receivers, or fewer than 0 controls.
        PairError, PromptError: the pairs cannot be aligned, or lack a position that is named.

    Source: Wang et al. 2022, arXiv 2211.00593, section 3.1; Goldowsky-Dill et al. 2023, arXiv 2304.05969.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> paths(ck.load("deductor-130k"), pairs, ["embed", Site("z", 0)], [Site("k", 1), "mlp_out"]).values.shape
    torch.Size([5, 7])
    """
    require_modules(model)
    sent, received = _ends(model, senders, "senders"), _ends(model, receivers, "receivers")
    _check_reach(model, sent, received)
    study = Study.of_pairs(model, pairs.on(model), metric, direction)
    random = RandomSets.beside(model, sent, controls, seed)
    values = _measured(study, [*sent, *random.others], received, progress)
    measured, others = values[: len(sent)], values[len(sent) :]
    return study.result(
        measured,
        ("sender", "receiver"),
        f"Path patching ({direction})",
        seed,
        coordinates={"sender": tuple(map(_name, sent)), "receiver": tuple(map(_name, received))},
        controls=study.beside(random, measured, others),
        study="patching.paths",
        controls_disjoint=list(random.disjoint),
    )


def direct_effects(
    model: Model,
    pairs: Pairs,
    senders: Ends = ("embed", "z", "mlp_out"),
    metric: Metric | Compute | str = metrics.logit_difference,
    direction: Direction = "denoise",
    *,
    controls: int = 20,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Patch what senders write straight into the logits, past all later layers: `paths` to the last stream.

    Args and errors are those of `paths`; by default the embedding, every head and every MLP send.

    Returns:
        A result with the axis `("sender",)`.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> direct_effects(ck.load("deductor-130k"), pairs).values.shape
    torch.Size([16])
    """
    last = Site("resid_post", layer=-1)
    result = paths(model, pairs, senders, [last], metric, direction, controls=controls, seed=seed, progress=progress)
    assert result.controls is not None  # paths have them
    return with_fields(
        result,
        per_example=result.per_example[:, 0],
        axes=("sender",),
        controls=result.controls[:, 0],
        coordinates={"sender": result.coordinates["sender"]},
        title=f"Direct effects ({direction}), {model.name}",
        provenance={**result.provenance, "study": "patching.direct_effects"},
    )


def _measured(
    study: Study, sent: list[Sites], received: list[Sites], progress: bool
) -> Float[Tensor, "sender receiver example"]:
    model, base = study.model, study.base
    read, read_source = (Reading.of(prompts, study.targets, study.metric) for prompts in (base, study.source))
    senders, receivers = ([site for sites in sets for site in sites] for sets in (sent, received))
    rows: list[Tensor] = []
    with torch.inference_mode():
        frozen = FrozenRun(model, read, read_source, base, senders, receivers)
        # A run of frozen layers, and the receivers' values held until they are measured, take half of it each.
        each = memory(model, None) // 2
        held = max(1, each // frozen.bytes_held(receivers))
        edits = _edits(frozen, sent, receivers, min(held, max(1, each // frozen.bytes_run)))
        while len(rows) < len(sent):
            batch = sent[len(rows) : len(rows) + held]
            made = list(islice(edits, len(batch)))
            there = torch.tensor([[reaches(model, one, other) for other in received] for one in batch])
            cells = [[made[i][site] for site in received[j] if site in made[i]] for i, j in there.nonzero().tolist()]
            title = f"paths from {len(rows) + len(batch)}/{len(sent)} senders"
            values = study.measured(cells, title, progress)
            grid = torch.full((*there.shape, len(base)), torch.nan, dtype=values.dtype)
            grid[there] = values
            rows += grid
    return torch.stack(rows)


def _edits(
    frozen: FrozenRun, sent: list[Sites], receivers: list[Site], size: int
) -> Iterator[dict[Site, Intervention]]:
    """What each set of senders puts into the receivers, in order; some at a time, fewer where memory runs out."""

    def run(batch: Sequence[Sites]) -> list[dict[Site, Intervention]]:
        return frozen.received(frozen.changes(batch), receivers)

    for _, made in some_at_a_time(frozen.model, sent, size, run, "senders"):
        yield from made


# Who sends, and who receives


def _ends(model: Model, named: Ends, role: Literal["senders", "receivers"]) -> list[Sites]:
    entries: Sequence[str | Site | Sequence[str | Site]] = [named] if isinstance(named, str | Site) else named
    sets: list[Sites] = []
    for entry in entries:
        if isinstance(entry, str | Site):
            sets += [(site,) for site in _components(model, entry, role)]
        else:
            sets.append(tuple(dict.fromkeys(site for name in entry for site in _components(model, name, role))))
            _check_disjoint(sets[-1], role)
    if not sets or not all(sets):
        example = _SENDERS if role == "senders" else _RECEIVERS
        raise ValueError(f"there are no {role}, or a set of them is empty: name sites such as {', '.join(example)}")
    return sets


def _components(model: Model, name: str | Site, role: Literal["senders", "receivers"]) -> list[Site]:
    """The components that a name stands for: one a layer, and one a head, where it names none."""
    site = Site.parse(name)
    if site.kind not in (_SENDERS if role == "senders" else _RECEIVERS):
        raise SiteError(_refusal(site, role))
    for layer in range(model.n_layers):
        # Only where every layer adds to the stream is a later layer's stream the base run's plus what senders change.
        model.point(Site("attn_out", layer=layer))
        model.point(Site("mlp_out", layer=layer))
    if site.kind == "resid_post":
        [last] = model.sites(site if site.layer is not None else site.at(layer=-1))
        if last.layer != model.n_layers - 1:
            raise SiteError(
                f"{site} cannot receive: of the streams only the last does, Site('resid_post', layer=-1); name the "
                "components that read the others"
            )
        return [last]
    sites = model.sites(site)
    if site.kind not in HEAD_KINDS or site.head is not None:
        return sites
    count = model.n_kv_heads if site.kind in KEY_VALUE_KINDS else model.n_heads
    return [each.at(head=head) for each in sites for head in range(count(each.layer or 0))]


def _refusal(site: Site, role: str) -> str:
    if role == "senders":
        told = "heads send by 'z', attention layers by 'attn_out', MLPs by 'mlp_out', and the embedding by 'embed'"
    else:
        told = (
            "a head receives by 'q', 'k' or 'v', or by all three at once with 'z'; an attention layer by 'attn_out', "
            "an MLP by 'mlp_out' (its input is meant, its value computed anew), and the logits by 'resid_post'"
        )
    return f"{site} cannot be among the {role}: {told}"


def _check_disjoint(sites: Sites, role: str) -> None:
    whole = {site.layer for site in sites if site.kind == "attn_out"}
    for site in sites:
        if site.kind in ("q", "k", "v", "z") and site.layer in whole:
            raise SiteError(f"a set of {role} names {site} beside attn_out[layer={site.layer}], which contains it")


def _check_reach(model: Model, sent: list[Sites], received: list[Sites]) -> None:
    if any(reaches(model, senders, receivers) for senders in sent for receivers in received):
        return
    raise SiteError(
        f"{_name(sent[0])} cannot reach {_name(received[0])}: a sender reaches only what reads the stream after it "
        "has written there (of one layer, only its attention the MLP, and not where they are parallel)"
    )


def _name(sites: Sites) -> str:
    return " + ".join(map(str, sites))
