"""`circuitkit sfn merge A B`: modules of B in A, as a model folder or a plug-in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.options import Words, assigned
from circuitkit.commands.sfn.options import FromHub, RevisionOfB, What
from circuitkit.commands.sfn.telling import tell_changes, tell_plugin

if TYPE_CHECKING:
    from circuitkit.sfn import Checkpoint

_HOW = Group("How much", sort_key=1)
_WHERE_TO = Group("Where to", sort_key=2)


def merge(
    a: str,
    b: str | None = None,
    *,
    what: What | None = None,
    alpha: Annotated[float | None, Parameter(group=_HOW)] = None,
    donor: Annotated[Words, Parameter(group=_HOW)] = None,
    base: Annotated[str | None, Parameter(group=_HOW)] = None,
    biases: Annotated[bool, Parameter(group=_HOW, negative="")] = False,
    vocabulary: Annotated[Literal["refuse", "leave-out"], Parameter(group=_HOW)] = "refuse",
    out: Annotated[Path | None, Parameter(group=_WHERE_TO)] = None,
    plugin: Annotated[Path | None, Parameter(group=_WHERE_TO)] = None,
    dry_run: Annotated[bool, Parameter(group=_WHERE_TO, negative="")] = False,
    hub: FromHub | None = None,
    revision_b: RevisionOfB = None,
) -> None:
    """Write a checkpoint that is A but for some modules, which are B's.

    A and B may be sharded differently and of different precision; what is written has A's shards and A's precision.
    manifest.json in it tells every changed tensor's hash before and after, how far it moved, and the command.

    ```
    circuitkit sfn merge deductor-130k-base deductor-130k-reason \\
        --modules o_proj --dry-run
    circuitkit sfn merge deductor-130k-base deductor-130k-reason \\
        --modules attention --layers 1-2 --alpha 0.5 --out half
    circuitkit sfn merge deductor-130k-base deductor-130k-reason \\
        --modules o_proj --heads 2.1 2.3 --out two-heads
    circuitkit sfn merge deductor-130k-base --modules mlp \\
        --donor deductor-130k-reason=0.7 deductor-130k-step600=0.3 \\
        --base deductor-130k-base --out arithmetic
    circuitkit sfn merge deductor-130k-base deductor-130k-reason \\
        --modules o_proj --plugin o_proj.safetensors
    circuitkit eval deductor-130k-base --plugin o_proj.safetensors \\
        --task prontoqa/implication_elimination/2
    ```

    Parameters
    ----------
    a
        What is grafted into: an embedded model, a folder, or a hub id.
    b
        Whose modules are grafted; leave it out with --donor.
    alpha
        The weight of B: 1 (if not given) takes B's weights bit for bit, 0.5 the mean of A's and B's.
    donor
        Task arithmetic instead of B: several models, each written MODEL=WEIGHT. A gets the sum of the weights times
        what the models have beyond --base.
    base
        What B or all donors were trained from, where that is not A.
    biases
        Graft the biases of these modules too.
    vocabulary
        What becomes of embeddings of different sizes: refuse, or leave-out, which keeps A's.
    out
        The new folder; it must not be there yet.
    plugin
        Write a plug-in instead of a folder: one small file with the modules alone, which every command takes as
        --plugin beside MODEL.
    dry_run
        Print what would change, and write nothing.
    revision_b
        Branch, tag or commit of B on the hub.
    """
    from circuitkit import sfn
    from circuitkit.sfn.live.plugins import planned

    chosen = (what or What()).chosen()
    _check(b, donor, alpha, revision_b)
    if plugin is not None:
        _check_plugin(b, base, out, alpha, vocabulary)
    elif out is None and not dry_run:
        raise ValueError("give --out FOLDER for a checkpoint, --plugin FILE for a plug-in, or --dry-run")
    hub = hub or FromHub()
    into, given = hub.opened(a), None if b is None else hub.another(b, revision_b)
    if plugin is not None and given is not None:
        if dry_run:
            tell_plugin(planned(given, plugin, base=into, biases=biases, **chosen), plugin)
            return
        written = sfn.save_plugin(given, plugin, base=into, biases=biases, **chosen)
        print(f"{written} has {', '.join(chosen['modules'])} of {b}, {written.stat().st_size:,} bytes, for {a}")
        return
    merged = sfn.merge(
        into,
        given,
        out=out,
        alpha=1.0 if alpha is None else alpha,
        biases=biases,
        donors=_donors(donor, hub),
        base=None if base is None else hub.another(base),
        vocabulary=vocabulary,
        dry_run=dry_run,
        **chosen,
    )
    tell_changes(merged)


def _check(b: str | None, donor: list[str] | None, alpha: float | None, revision_b: str | None) -> None:
    if (b is None) == (donor is None):
        raise ValueError("give B behind A, or --donor MODEL=WEIGHT …, one of the two")
    if donor is not None and alpha is not None:
        raise ValueError("--alpha is the weight of B; a donor has its own, such as --donor deductor-130k=0.3")
    if donor is not None and revision_b is not None:
        raise ValueError("--revision-b is B's; of a donor at a revision give the folder that it is downloaded to")


def _check_plugin(b: str | None, base: str | None, out: Path | None, alpha: float | None, vocabulary: str) -> None:
    if out is not None:
        raise ValueError("--out writes a checkpoint and --plugin a plug-in: give one of the two")
    if b is None or base is not None or alpha is not None or vocabulary != "refuse":
        raise ValueError("a plug-in holds B's modules as they are: leave --donor, --base, --alpha, --vocabulary out")


def _donors(words: list[str] | None, hub: FromHub) -> list[tuple[Checkpoint, float]] | None:
    """Models with weights, each written MODEL=WEIGHT."""
    if words is None:
        return None
    weights = assigned(words, "--donor", "MODEL=WEIGHT", "deductor-130k=0.3")
    try:
        numbers = [float(weight) for weight in weights.values()]
    except ValueError as wrong:
        raise ValueError(f"--donor is written MODEL=WEIGHT, such as deductor-130k=0.3; {wrong}") from wrong
    return [(hub.another(name), number) for name, number in zip(weights, numbers, strict=True)]
