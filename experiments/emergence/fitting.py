"""What of a plan its models' tokenizers have no words for: told before anything is answered, not behind it."""

from __future__ import annotations

from dataclasses import replace

import circuitkit as ck
from emergence.plans import Plan
from emergence.prompts import deductions, tokenizer_of


def fitting(plan: Plan, *, chosen: bool) -> Plan:
    """A plan without what cannot be asked of its models, which stands in `left_out`.

    Args:
        plan: what is asked for.
        chosen: whether its recipes were named, so that none is left out.

    Raises:
        SystemExit: a recipe that was named cannot be run.
    """
    if all(recipe.prompts != "step" for recipe in plan.recipes):
        return plan
    if (problem := _without_words(plan)) is not None:
        if chosen:
            raise SystemExit(f"the recipe step cannot be run: {problem}")
        print(f"The recipe step is left out: {problem}")
        kept = tuple(recipe.name for recipe in plan.recipes if recipe.prompts != "step")
        return replace(plan.of(kept), left_out=(f"The recipe step, and heads moved between the models: {problem}.",))
    base, post = (tokenizer_of(name) for name in (plan.twins.base, plan.twins.post))
    if plan.patched and deductions(base, 1, plan.seed) != deductions(post, 1, plan.seed):
        said = "Heads moved between the models: they read the same deductions as other tokens."
        print(f"Left out: {said}")
        return replace(plan, patched=0, left_out=(said,))
    return plan


def _without_words(plan: Plan) -> str | None:
    """Why both models cannot be asked the same deductions; None if they can."""
    try:
        base, post = (
            ck.tasks.deductions.pairs(tokenizer_of(name), plan.pairs, plan.seed)
            for name in (plan.twins.base, plan.twins.post)
        )
    except ValueError as error:
        return str(error)
    if (base.clean, base.corrupt) != (post.clean, post.corrupt):
        return "base and post-trained model have other words as single tokens, so that they would be asked other things"
    return None
