"""`circuitkit sfn destroy A`: modules that are emptied, drawn anew, shuffled, drowned in noise, or stepped over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.sfn.options import FromHub, What
from circuitkit.commands.sfn.telling import tell_changes

_HOW = Group("How", sort_key=1)


def destroy(
    a: str,
    *,
    what: What | None = None,
    how: Annotated[Literal["zero", "reinit", "init", "permute", "noise", "remove"], Parameter(group=_HOW)] = "zero",
    sigma: Annotated[float | None, Parameter(group=_HOW)] = None,
    biases: Annotated[bool, Parameter(group=_HOW)] = True,
    seed: Annotated[int, Parameter(group=_HOW)] = 0,
    out: Path | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    hub: FromHub | None = None,
) -> None:
    """Write a checkpoint that is A without what some modules have learnt.

    ```
    circuitkit sfn destroy deductor-130k-reason --modules q_proj --dry-run
    circuitkit sfn destroy deductor-130k-reason --modules o_proj \\
        --how reinit --sigma 0.02 --seed 1 --out drawn
    circuitkit sfn destroy deductor-130k-reason --modules attention \\
        --heads 1.2 --how noise --out noisy
    circuitkit sfn destroy deductor-130k-reason --layers 1 --how remove \\
        --out without-layer-1
    ```

    Parameters
    ----------
    a
        An embedded model, a folder, or a hub id.
    how
        zero: all weights 0. reinit: drawn from a normal distribution of --sigma, as in the paper. init: drawn as the
        architecture initialises them. permute: the same numbers in another order. noise: noise of the same norm.
        remove: the layers, as a whole (--layers without --modules), hand on what they
        are given.
    sigma
        Of reinit; 0.02, the paper's, if not given.
    biases
        Do the same to the biases of these modules, as the paper does.
    seed
        Of what is drawn: the same seed draws the same numbers on every machine, in every sharding.
    out
        The new folder; it must not be there yet.
    dry_run
        Print what would change, and write nothing.
    """
    from circuitkit import sfn

    given = what or What()
    if out is None and not dry_run:
        raise ValueError("give --out FOLDER, which is made, or --dry-run to see what would change")
    if sigma is not None and how != "reinit":
        raise ValueError(f"--sigma is of --how reinit, and --how is {how}")
    drawn: dict[str, Any] = {} if sigma is None else {"sigma": sigma}
    chosen = given.chosen(whole=how == "remove")
    opened = (hub or FromHub()).opened(a)
    done = sfn.destroy(opened, how=how, out=out, biases=biases, seed=seed, dry_run=dry_run, **chosen, **drawn)
    tell_changes(done)
