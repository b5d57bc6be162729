"""Options of `circuitkit sweep run` that say where on a Ray cluster cells run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from circuitkit.studies import Backend

_CLUSTER = Group("With --on ray")


@Parameter(name="*")
@dataclass(frozen=True)
class OnCluster:
    """Where on a Ray cluster cells run."""

    address: Annotated[str | None, Parameter(group=_CLUSTER)] = None
    """auto, host:6379 or ray://host:10001; RAY_ADDRESS or a cluster of this machine's own if not given."""

    cpus: Annotated[float | None, Parameter(group=_CLUSTER)] = None
    """Cores for each cell, and its torch threads; 1 if not given."""

    gpus: Annotated[float | None, Parameter(group=_CLUSTER)] = None
    """GPUs for each cell, or a part of one; none if not given."""

    memory: Annotated[float | None, Parameter(group=_CLUSTER)] = None
    """GiB for each cell."""


def place(on: Literal["local", "ray"], workers: int | None, cluster: OnCluster | None) -> Literal["local"] | Backend:
    """Where a sweep runs, by a command's options.

    Raises:
        ValueError: options of a cluster, and none is asked for.

    >>> place("local", None, None)
    'local'
    """
    asked = {name: value for name, value in asdict(cluster or OnCluster()).items() if value is not None}
    if on == "ray":
        from circuitkit.studies.ray import OnRay

        return OnRay(workers=workers, **asked)
    if asked:
        raise ValueError(f"--{next(iter(asked))} is for a Ray cluster: give --on ray too, or leave it out")
    return on
