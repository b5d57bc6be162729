"""`circuitkit sfn freeze MODEL`: some modules are trained, all others stay, and that is proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from circuitkit.commands.loading import LoadAs
from circuitkit.commands.train import training
from circuitkit.commands.train.options import From, Settings

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.sfn import Checkpoint
    from circuitkit.training.recipe import Recipe

_PROOF = Group("Proof", sort_key=0)


def freeze(
    model: str,
    *,
    on: From | None = None,
    preset: str | None = None,
    settings: Settings | None = None,
    against: Annotated[str | None, Parameter(group=_PROOF)] = None,
    out: Path = Path("trained"),
    load_as: LoadAs | None = None,
) -> None:
    """Train some modules of a model alone, and prove that no other weight has moved.

    Without --data, --task or --against nothing is trained, and no weight is read: it is told how many parameters would
    be trained, and which stay frozen.

    ```
    circuitkit sfn freeze deductor-130k-base --train o_proj embed lm_head norm
    circuitkit sfn freeze deductor-130k-base --out trained \\
        --train o_proj embed lm_head norm \\
        --task prontoqa/implication_elimination/2 --shots 0 --validation 0.1 \\
        --learning-rate 1e-3 --max-steps 100
    circuitkit sfn freeze deductor-130k-base --against trained/model \\
        --train o_proj embed lm_head norm
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k-base), a folder, or a hub id.
    preset
        Settings of a paper, as of circuitkit train; freeze has those of this gadget.
    against
        A checkpoint that was trained from MODEL, by whatever program: it is proved from the two, number by number,
        that only what --train names has moved. Nothing is trained then.
    out
        Folder for checkpoints, the chosen model, the curve, settings and provenance, as of circuitkit train.
    """
    from circuitkit.sfn import Checkpoint
    from circuitkit.training.freezing import trained_names

    load_as = load_as or LoadAs()
    if load_as.plugin is not None:
        raise ValueError("what was frozen is proved against MODEL's own weights: leave --plugin out, or merge it first")
    recipe = _recipe(settings or Settings(), preset)
    trains = on is not None and (on.data is not None or on.task is not None)
    if against is not None and trains:
        raise ValueError("--against proves a training that is done: leave --data and --task out, or --against")
    checkpoint = Checkpoint.open(model, revision=load_as.revision, trust_remote_code=load_as.trust_remote_code)
    names = trained_names(checkpoint.skeleton, recipe)
    _tell(checkpoint, names)
    if trains:
        training(model, on=on, preset=preset, settings=settings, out=out, load_as=load_as)
        against = str(out / "model")
    if against is None:
        print("nothing is trained yet: add --data FILE or --task NAME to train, --against TRAINED to prove a training")
        return
    _prove(checkpoint, against, names, load_as)


def _recipe(settings: Settings, preset: str | None) -> Recipe:
    from circuitkit.training import preset as preset_of

    given = settings.given(preset)
    given.pop("shots", None)
    recipe = preset_of(preset).but(**given)
    if recipe.lora is not None:
        raise ValueError("an adapter leaves every weight of the model as it is: train one with circuitkit train --lora")
    if recipe.train is None:
        raise ValueError(
            "say what is trained: --train o_proj embed lm_head norm is what the paper trains, and all else is frozen"
        )
    return recipe


def _tell(checkpoint: Checkpoint, names: set[str]) -> None:
    table = _counts(checkpoint, names)
    print(table.to_string(index=False, formatters=dict.fromkeys(("trained", "frozen"), "{:,}".format)))
    trained, total = int(table["trained"].sum()), int(table[["trained", "frozen"]].to_numpy().sum())
    print(
        f"{trained:,} of {total:,} parameters of {checkpoint.name} are trained ({100 * trained / total:.3g} %), in "
        f"{len(names)} tensor{'s' * (len(names) != 1)}; the rest is frozen"
    )


def _counts(checkpoint: Checkpoint, names: set[str]) -> pd.DataFrame:
    """How many parameters are trained, and how many frozen, by module; tied ones once."""
    import pandas as pd

    from circuitkit.model import roles
    from circuitkit.model.roles import ROLES

    named = dict(checkpoint.skeleton.anatomy.root.named_parameters())
    rows: dict[tuple[str, ...], list[int]] = {}
    for name, having in roles.parameters(checkpoint.skeleton).items():
        rows.setdefault(having, [0, 0])[name not in names] += named[name].numel()
    by_role = sorted(rows, key=lambda having: [ROLES.index(role) for role in having] or [len(ROLES)])
    return pd.DataFrame(
        [("+".join(having) or "other", *rows[having]) for having in by_role], columns=["module", "trained", "frozen"]
    )


def _prove(checkpoint: Checkpoint, trained: str, names: set[str], load_as: LoadAs) -> None:
    from circuitkit.sfn import Checkpoint, moved

    after = Checkpoint.open(trained, trust_remote_code=load_as.trust_remote_code)
    found = moved(checkpoint, after, sorted(names))
    found.check()
    frozen = found.frame[~found.frame["trained"]]
    changed = int(found.frame["changed"].sum())
    how = f"in {trained}'s own, lesser precision" if found.rounded else "bit for bit"
    print(
        f"{changed:,} of {int(found.frame.loc[found.frame['trained'], 'numbers'].sum()):,} trained numbers have moved"
    )
    print(
        f"proved: the other {len(frozen)} parameters, {int(frozen['numbers'].sum()):,} numbers, are those of "
        f"{checkpoint.name}, {how}"
    )
