"""One run of prompts through a model under interventions, and what it gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.model.devices import accelerators
from circuitkit.model.sharding import check_same_prompts
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.run.cache import Cache
from circuitkit.run.interventions import InterventionError, Interventions
from circuitkit.run.session import Session
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.model.model import Model


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """What a run gave.

    Attributes:
        logits: `[batch, column, vocab]`, or `[batch, vocab]` where one position was asked for.
        cache: captured sites.
        tokens: the batch that was run.
    """

    logits: Float[Tensor, "batch *column vocab"]
    cache: Cache
    tokens: Tokens

    def gradients(self, value: Float[Tensor, "*batch"]) -> Cache:
        """Gradients of a value at every captured site, of a run made with `gradients=True`.

        Args:
            value: a scalar, or one value an example, summed; computed from this run's logits or cache.

        Raises:
            InterventionError: the run kept no graph, or the value does not depend on a captured site.
        """
        wholes = {site: self.cache[site] for site in self.cache}
        if not value.requires_grad or not wholes:
            raise InterventionError("there is nothing to differentiate at: run with gradients=True and capture=[…]")
        grads = torch.autograd.grad(value.sum(), list(wholes.values()), retain_graph=True, allow_unused=True)
        for site, gradient in zip(wholes, grads, strict=True):
            if gradient is None:
                raise InterventionError(f"the value does not depend on {site}, so it has no gradient there")
        found = dict(zip(wholes, grads, strict=True))
        kept = self.cache
        return Cache(found, kept.positions, kept.prompt_lengths, kept.metadata, kept.n_layers)

    def _says(self) -> list[str]:
        n = len(self.cache)
        return [
            *self.tokens._says(),
            f"Logits of the shape {list(self.logits.shape)}, {n} captured site{'s' * (n != 1)} in .cache; below, the "
            "likeliest next tokens.",
        ]

    def _strongest(self) -> pd.DataFrame:
        import pandas as pd

        logits = self.logits.detach()
        if logits.ndim == 3:
            logits = logits[torch.arange(len(logits), device=logits.device), self.tokens.columns(-1).to(logits.device)]
        probability, token = logits.float().softmax(-1).max(-1)
        rows = {"prompt": range(len(logits)), "next token (id)": token.tolist(), "probability": probability.tolist()}
        return pd.DataFrame(rows)


def run(
    model: Model,
    prompts: Prompts | Tokens,
    interventions: Interventions,
    capture: Iterable[Site | str],
    logits_at: int | None,
    attention_mask: Tensor | None,
    gradients: bool,
) -> Run:
    """See `circuitkit.Model.run`."""
    tokens = model.tokens(prompts, attention_mask)
    session = Session(model, interventions, capture, gradients=gradients)
    session.check_positions(tokens)
    check_same_prompts(model.group, tokens)
    if logits_at is not None and model.accepts("logits_to_keep"):
        _check_all_positions(
            model, [*(edit.site for edit in session.edits), *(capture.site for capture in session.captures)]
        )

    def compute() -> Run:
        with session, torch.set_grad_enabled(gradients):
            logits = forward(model, tokens, None if logits_at is None else tokens.columns(logits_at)[:, None])
            logits = logits if logits_at is None else logits[:, 0]
        if (row := nan_row(logits)) is not None:
            raise InterventionError(f"the logits of row {row} hold NaN: {nan_advice(model)}")
        return Run(logits, session.cache, tokens)

    if model.clean_runs is None or session.edits or gradients:
        return compute()
    sites = [each.site for each in session.captures]
    return model.clean_runs.read_or_run(model, tokens, sites, logits_at, compute)


def _check_all_positions(model: Model, sites: Iterable[Site]) -> None:
    """Refuse modules behind the backbone, which are handed only the positions whose logits are computed."""
    anatomy = model.anatomy
    before = {anatomy.root, *anatomy.backbones[0].modules()}
    for site in sites:
        if site.module is not None and model.point(site).module not in before:
            raise InterventionError(
                f"{site} lies behind the backbone, where logits_at leaves one position alone: leave logits_at out, and "
                "read the position from all the logits"
            )


def nan_row(logits: Tensor) -> int | None:
    """The first row that holds a NaN, or None."""
    # A sum is NaN where any term is, and costs a fortieth of looking at every one.
    if not bool(torch.isnan(logits.sum())):
        return None
    rows = torch.isnan(logits).flatten(1).any(-1).nonzero()
    return int(rows[0]) if len(rows) else None


def nan_advice(model: Model) -> str:
    """What to try where a model's logits hold NaN, by the numbers that it computes with."""
    dtypes = {parameter.dtype for parameter in model.anatomy.root.parameters()}
    if torch.float16 in dtypes:
        return "float16 overflows at 65504, so try bfloat16 or float32"
    if torch.bfloat16 in dtypes:
        return "bfloat16 is coarse, so try float32"
    if torch.float64 in dtypes:
        return "transformers' attention masks a row's padding in float64 by what is infinite in float32: try float32"
    return "look for NaN or infinity among the weights and the interventions' values, or in the first captured layer"


def forward(
    model: Model, tokens: Tokens, columns: Int[Tensor, "batch reads"] | None = None, cache: Any = None
) -> Float[Tensor, "batch reads vocab"]:
    """Logits of a token batch, at some columns of each row or at all, computed only where they are read.

    With a KV cache of the first columns, only those behind them are run.
    """
    first = 0 if cache is None else int(cache.get_seq_length())
    arguments: dict[str, Any] = {"input_ids": tokens.ids[:, first:], "attention_mask": tokens.mask.long()}
    if model.accepts("position_ids"):
        # Without them, transformers counts a row's padding as text.
        arguments["position_ids"] = tokens.positions.clamp(min=0)[:, first:]
    if model.accepts("use_cache"):
        arguments["use_cache"] = cache is not None
    if cache is not None:
        arguments["past_key_values"] = cache
    if columns is None:
        logits: Tensor = model.hf(**arguments).logits
        return logits
    read, where = torch.unique(columns - first, return_inverse=True)
    if model.accepts("logits_to_keep"):
        # On the CPU an index fits a stream on any device, and the last layer's is not always the tokens'.
        read = read.cpu() if len(accelerators(model.hf)) > 1 else read
        logits = model.hf(**arguments, logits_to_keep=read).logits
    else:
        logits = model.hf(**arguments).logits[:, read]
    return logits[torch.arange(len(tokens), device=logits.device)[:, None], where.to(logits.device)]
