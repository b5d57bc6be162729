"""What the nnsight engine cannot do, said before anything runs."""

from __future__ import annotations

from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.run.interventions import Intervention


class EngineError(ValueError):
    """Something was asked of an engine that it cannot do."""


REFUSALS: dict[str, str] = {
    "forward": "its modules are not here: use model.run, model.generate, or a study that is made of cells",
    "gradients": "nothing is differentiated where the model is: load it without engine='nnsight'",
    "capture in a context": "captures belong to one run: use model.run(prompts, capture=…)",
    "attention while generating": "scores and pattern are reached in a run over prompts, not while decoding",
    "attention without eager": "fused attention never forms scores and pattern: load with attn_implementation='eager'",
    "force": "forcing a pattern's sum needs rules that do not travel: knock keys out, or replace the pattern",
    "study within intervene": "cells are stacked along the batch, which outer interventions do not know of",
    "own hooks": "this study holds its own hooks on the model, which is not here: load it without engine='nnsight'",
    "own modules": "this study computes with the model's own modules, not here: load it without engine='nnsight'",
    "TransformerLens": "a bridge is made over weights, which are not here: load it without engine='nnsight'",
    "return_dict_in_generate": "token ids alone come back: leave it out, and run the ids for their logits",
    "budget": "memory elsewhere cannot be measured: set model.rows_at_once, the most rows of one trace",
    "decoding": "interventions follow greedy decoding or sampling, one sequence a prompt, with a KV cache",
}
"""What is refused, and what to do instead."""


def refusal(what: str, where: str) -> EngineError:
    """The error that tells of a refusal.

    >>> str(refusal("budget", "toy"))[:40]
    'toy on nnsight: budget is not possible: '
    """
    return EngineError(f"{where} on nnsight: {what} is not possible: {REFUSALS[what]}")


def check_intervention(intervention: Intervention, site: Site, eager: bool, generating: bool, where: str) -> None:
    """Refuse an intervention that the engine cannot carry out.

    Raises:
        EngineError: it cannot.
    """
    if intervention.operation == "force":
        raise refusal("force", f"{where}, {site}")
    check_site(site, eager, generating, where)


def check_site(site: Site, eager: bool, generating: bool, where: str) -> None:
    """Refuse a site that the engine cannot reach.

    Raises:
        EngineError: it cannot.
    """
    if site.kind not in ATTENTION_KINDS:
        return
    if generating:
        raise refusal("attention while generating", f"{where}, {site}")
    if not eager:
        raise refusal("attention without eager", f"{where}, {site}")
