"""`circuitkit patch paths` and `direct`: what components tell each other, and the logits, directly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, metric_of
from circuitkit.commands.patch.options import Direction
from circuitkit.commands.patch.sites import ends_of, written
from circuitkit.commands.prompts import PairsFrom, load_with_pairs

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.results import Result

Ends = Annotated[list[str], Parameter(negative="", consume_multiple=True)]


def paths(
    model: str,
    *,
    senders: Annotated[Ends, Parameter(name="--from")],
    receivers: Annotated[Ends, Parameter(name="--to")],
    direction: Direction = "denoise",
    metric: MetricName = "logit_difference",
    controls: int = 20,
    prompts: PairsFrom | None = None,
    out: Path = Path("paths"),
    load_as: LoadAs | None = None,
) -> None:
    """Patch what senders tell receivers directly, everything else frozen, and draw the sender x receiver map.

    A site without layer or head stands for each of them in turn, so --from z --to logits is every head's own path.
    Sites joined by + act together. Example:

    ```
    circuitkit patch paths deductor-130k --from embed z mlp --to q.2.1 k.2 logits
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    senders
        Who tells: embed, z.LAYER.HEAD (a head), attn_out.LAYER, mlp_out.LAYER; @POSITION narrows it to one token.
    receivers
        Who is told: q, k or v.LAYER.HEAD (one input of a head), z.LAYER.HEAD (all three), attn_out.LAYER, mlp_out.LAYER
        (their inputs), logits.
    direction
        denoise: corrupt run, what senders say in the clean one. noise: the other way round.
    metric
        What is measured; probability_difference is that of greater-than.
    controls
        How many random sets, with as many heads in each layer, to set beside each sender that is made of heads.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import patching
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    sent, received = ends_of(senders), ends_of(receivers)
    chosen = prompts or PairsFrom()
    loaded, pairs = load_with_pairs(model, load_as, chosen)
    measured = metric_of(metric, loaded)
    result = patching.paths(loaded, pairs, sent, received, measured, direction, controls=controls, seed=chosen.seed)
    result = _as_written(result, loaded)
    write_result(result, out, "paths", pairs)
    tell(result, out)


def direct(
    model: str,
    *,
    senders: Annotated[Ends, Parameter(name="--from")] = ["embed", "z", "mlp_out"],  # noqa: B006  # shown in help
    direction: Direction = "denoise",
    metric: MetricName = "logit_difference",
    controls: int = 20,
    prompts: PairsFrom | None = None,
    out: Path = Path("direct"),
    load_as: LoadAs | None = None,
) -> None:
    """Patch what senders write straight into the logits, past all later layers.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    senders
        Who writes: embed, z.LAYER.HEAD (a head), attn_out.LAYER, mlp_out.LAYER; without a layer or head each in turn,
        and joined by + together.
    direction
        denoise: corrupt run, what senders write in the clean one. noise: the other way round.
    metric
        What is measured; probability_difference is that of greater-than.
    controls
        How many random sets, with as many heads in each layer, to set beside each sender that is made of heads.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import patching
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    sent = ends_of(senders)
    chosen = prompts or PairsFrom()
    loaded, pairs = load_with_pairs(model, load_as, chosen)
    measured = metric_of(metric, loaded)
    result = patching.direct_effects(loaded, pairs, sent, measured, direction, controls=controls, seed=chosen.seed)
    result = _as_written(result, loaded)
    write_result(result, out, "direct", pairs)
    tell(result, out)


def _as_written(result: Result, model: Model) -> Result:
    """The result with senders and receivers named as on the command line, short enough for an axis."""
    from dataclasses import replace

    named = {
        axis: tuple(written(str(name), model.n_layers) for name in names) for axis, names in result.coordinates.items()
    }
    return replace(result, coordinates=named)
