"""What is refused before lm-eval runs a model: what it cannot run, or would run as another model than it is."""

from __future__ import annotations

from collections.abc import Sequence

from circuitkit.evaluation.joining import why_rows_are_named
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.model import Model
from circuitkit.run.interventions import Intervention
from circuitkit.run.session import check_dropout


def check_model(model: Model, interventions: Sequence[Intervention]) -> None:
    """Refuse a model that lm-eval cannot run or would change, and interventions that many batches cannot hold.

    Raises:
        HarnessError: the model has no tokenizer, runs elsewhere or has an output embedding that would be tied; or an
            intervention names the rows of one batch.
        SiteError: the model has no such site.
        InterventionError: the model has dropout at work.
    """
    if model.tokenizer is None:
        raise HarnessError(
            f"{model.name} has no tokenizer, and lm-eval asks in text: give ck.Model(hf_model, tokenizer)"
        )
    # Weights that accelerate has put elsewhere come when they are needed.
    offloaded = hasattr(model.anatomy.root, "hf_device_map")
    if not offloaded and any(parameter.is_meta for parameter in model.anatomy.root.parameters()):
        raise HarnessError(f"the weights of {model.name} are not here, and lm-eval runs the model itself: load it here")
    if (why := why_rows_are_named(list(interventions))) is not None:
        raise HarnessError(f"{why}, and lm-eval makes batches of other rows than you know: leave it out")
    for each in interventions:
        model.sites(each.site)
    check_dropout(model)
    read, written = model.hf.get_input_embeddings(), model.hf.get_output_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", False)
    if tied and written is not None and read.weight is not written.weight:
        raise HarnessError(
            f"{model.name} has an output embedding of its own, which its config says is tied, and lm-eval would tie it "
            "again: set model.hf.config.tie_word_embeddings = False"
        )


def check_sessions(model: Model) -> None:
    """Refuse contexts that are open on the model and hold for the rows of one batch.

    Raises:
        HarnessError: one does.
    """
    for session in model.sessions:
        why = why_rows_are_named(session.interventions)
        if session.captures or why:
            raise HarnessError(
                "a context that is open on the model holds for the rows of one batch "
                f"({'captures' if session.captures else why}), and lm-eval runs many: close it"
            )
