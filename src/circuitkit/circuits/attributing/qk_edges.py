"""Edge attribution that goes through the softmax exactly: the QK fix for edges into queries and keys.

The query of a destination under an edge is computed from the stream with what the source makes different in it, through
the layer's own norm and projection, and the softmax from that query; what comes of it is held against the gradient at
`z` in the clean run. Edges into values, MLPs and the logits, which no softmax follows at once, are those of EAP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.circuits.attributing.contraction import Scores
from circuitkit.circuits.attributing.passes import INPUT
from circuitkit.circuits.attributing.qk_fix import Part, SoftmaxAnew, gradients_at_z
from circuitkit.model.site import Kind, Site
from circuitkit.model.tokens import Tokens
from circuitkit.run.cache import Cache
from circuitkit.run.memory import memory, some_at_a_time
from circuitkit.run.one_layer import computed

if TYPE_CHECKING:
    from circuitkit.circuits.attributing.methods import Batch, Runs, Settings
    from circuitkit.model.model import Model

_KINDS: tuple[Kind, ...] = ("resid_pre", "q", "k", "z")


def on_queries_and_keys(model: Model, batch: Batch, settings: Settings) -> Scores:
    """Scores of EAP, but for edges into queries and keys: those with the QK fix."""
    from circuitkit.circuits.attributing.methods import Runs

    runs = Runs(model, batch, settings)
    received = runs.received()
    with gradients_at_z(model) as at_z:
        runs.pass_at(INPUT, runs.clean_input, received, 1.0)
    runs.contraction.add(received)
    scores = runs.contraction.scores
    with torch.inference_mode():
        for layer in range(model.n_layers):
            _fix(runs, layer, at_z[layer], scores)
            settings.tick()
    return scores


def _fix(runs: Runs, layer: int, gradient: Tensor, scores: Scores) -> None:
    """Put the fixed scores of edges into one layer's queries and keys in the place of EAP's."""
    model, layout, tokens = runs.model, runs.differences.layout, runs.batch.aligned.clean.tokens
    clean = model.run(tokens, capture=[Site(kind, layer=layer) for kind in _KINDS], logits_at=-1).cache
    anew = SoftmaxAnew(model, tokens, layer, clean)
    columns = {"q": layout.queries_at(layer), "k": layout.keys_at(layer)}
    rows = layout.before_attention(layer)
    size = max(1, memory(model, None) // _bytes(model, tokens, layout.n_heads[layer]))

    def fixed(some: Sequence[int]) -> dict[Part, Tensor]:
        block = runs.differences.block(slice(some[0], some[-1] + 1))
        return _fixed(anew, block, clean, gradient, runs.contraction.kept)

    for some, made in some_at_a_time(model, range(rows.start, rows.stop), size, fixed, "sources"):
        for part, effects in made.items():
            scores[:, :, some[0] : some[-1] + 1, columns[part]] = effects.to(scores)


def _fixed(
    anew: SoftmaxAnew,
    block: Float[Tensor, "source batch position d_model"],
    clean: Cache,
    gradient: Float[Tensor, "batch position head d_head"],
    kept: Bool[Tensor, "kept batch position"],
) -> dict[Part, Float[Tensor, "kept batch source part_head"]]:
    queries, keys = _parts(anew, block, clean)
    everywhere = torch.einsum("sbph,kbp->kbsh", anew.effects("q", queries, gradient), kept.to(queries.dtype))
    of_keys = [anew.effects("k", keys, gradient).sum(2).transpose(0, 1)]
    for span in kept[1:]:
        # Of keys, whose changes meet in one softmax, a span's part is what they do with no other changed.
        only = torch.where(span[..., None, None], keys, clean[Site("k", layer=anew.layer)])
        of_keys.append(anew.effects("k", only, gradient).sum(2).transpose(0, 1))
    return {"q": everywhere, "k": torch.stack(of_keys)}


def _parts(anew: SoftmaxAnew, block: Tensor, clean: Cache) -> tuple[Tensor, Tensor]:
    """Every head's query and key under each source's difference."""
    layer, entering = anew.layer, clean[Site("resid_pre", layer=anew.layer)]
    stream = (entering.to(block.dtype) + block).to(entering.dtype).flatten(0, 1)
    sites = [Site("q", layer=layer), Site("k", layer=layer)]
    alone = computed(anew.model, anew.tokens, layer, stream, sites)
    # Tokens whose stream is the clean run's compute what they did: rounding is no change.
    touched = (block != 0).any(-1)[..., None, None]
    queries, keys = (
        torch.where(touched, alone[site].view(len(block), *clean[site].shape), clean[site]) for site in sites
    )
    return queries, keys


def _bytes(model: Model, tokens: Tokens, n_heads: int) -> int:
    """What one source's difference and a layer's attention on it take."""
    return tokens.ids.numel() * 4 * (16 * model.d_model + 2 * n_heads * tokens.ids.shape[1])
