"""`circuitkit sfn delta A B …`: how far each module moved, and in what way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.options import Words
from circuitkit.commands.sfn.options import WHERE, FromHub, RevisionOfB, layers_of

_MEASURES = Group("What is measured", sort_key=1)


def delta(
    *checkpoints: str,
    modules: Annotated[Words, Parameter(group=WHERE)] = None,
    layers: Annotated[Words, Parameter(group=WHERE)] = None,
    vocabulary: Annotated[Literal["refuse", "leave-out"], Parameter(group=WHERE)] = "refuse",
    heads: Annotated[bool, Parameter(group=_MEASURES)] = True,
    histogram: Annotated[Literal["paper", "code", "none"], Parameter(group=_MEASURES)] = "paper",
    modes: Annotated[bool, Parameter(group=_MEASURES)] = True,
    stable_rank: Annotated[bool, Parameter(group=_MEASURES, negative="")] = False,
    seed: Annotated[int, Parameter(group=_MEASURES)] = 0,
    out: Path = Path("delta"),
    hub: FromHub | None = None,
    revision_b: RevisionOfB = None,
) -> None:
    """Measure how far each module of B is from A's, layer by layer and head by head.

    ```
    circuitkit sfn delta deductor-130k-base deductor-130k-reason
    circuitkit sfn delta deductor-130k-base deductor-130k-reason \\
        --modules attention --layers 1-2 --histogram code
    circuitkit sfn delta deductor-130k-base deductor-130k-step600 \\
        deductor-130k-step1500 deductor-130k-reason
    circuitkit sfn delta Qwen/Qwen2.5-Math-1.5B \\
        deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --vocabulary leave-out
    ```

    Parameters
    ----------
    checkpoints
        A, then B: embedded models, folders, or hub ids. Several B are the steps of a training, in their order.
    modules
        q_proj k_proj v_proj o_proj gate_proj up_proj down_proj embed lm_head norm, attention (the first four), mlp (the
        next three), all, or names of modules or parameters, with * for any text. All that have a role if not given.
    layers
        Which layers, such as 0 5-29 -1: from 0, a range with both its ends, negative ones counting from the last. All
        if not given.
    vocabulary
        What becomes of embeddings of different sizes: refuse, or leave-out, which does not compare them.
    heads
        Measure each attention head too.
    histogram
        Of the relative change, by the formula of the paper or of its code, or none.
    modes
        Look for several modes in it, beside controls that tell modes of rounding and of small weights.
    stable_rank
        The stable rank of each change, which reads matrices again, many times for large ones.
    seed
        Of samples and controls.
    out
        Folder for the result (safetensors), its tables (CSV), figures (PNG, SVG) and provenance (JSON); those of an
        earlier comparison in it are replaced.
    revision_b
        Branch, tag or commit of B on the hub, of each B if there are several.
    """
    if len(checkpoints) < 2:
        raise ValueError("name two checkpoints, A and then B, such as deductor-130k-base deductor-130k-reason")
    from circuitkit import sfn
    from circuitkit.commands.sfn.telling import check_folder, tell_delta, write_delta

    check_folder(out)
    hub = hub or FromHub()
    first, *others = checkpoints
    found = sfn.delta(
        first,
        others if len(others) > 1 else others[0],
        modules,
        layers_of(layers),
        per_head=heads,
        histogram=None if histogram == "none" else histogram,
        bimodality=modes,
        stable_rank=stable_rank,
        vocabulary=vocabulary,
        revision_a=hub.revision,
        revision_b=revision_b,
        trust_remote_code=hub.trust_remote_code,
        seed=seed,
    )
    write_delta(found, out)
    tell_delta(found, out)
