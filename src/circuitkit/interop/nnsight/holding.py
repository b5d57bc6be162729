"""Interventions held on an engine, which hangs no hooks on anything: what is held goes along with the next trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from circuitkit.interop.nnsight.limits import check_site, refusal
from circuitkit.model.site import Site
from circuitkit.run.cache import Cache
from circuitkit.run.interventions import Intervention
from circuitkit.run.session import Session

if TYPE_CHECKING:
    from circuitkit.interop.nnsight.engine import NnsightModel


class Holding(Session):
    """Interventions in force on an engine; a context manager, made by `NnsightModel.intervene`.

    Args:
        outer: sessions whose interventions come first.

    Raises:
        SiteError: a named layer, head or module does not exist.
        EngineError: a site is captured that cannot be reached.
    """

    def __init__(
        self,
        model: NnsightModel,
        interventions: Sequence[Intervention],
        capture: Iterable[Site | str],
        *,
        outer: Sequence[Session] = (),
    ) -> None:
        if isinstance(interventions, Intervention):
            interventions = [interventions]
        held = [each for session in outer for each in session.interventions]
        super().__init__(model, [*held, *interventions], capture)
        for kept in self.captures:
            check_site(kept.site, model.eager, False, model.name)

    def __enter__(self) -> Holding:
        self.model.sessions.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model.sessions.remove(self)

    @property
    def cache(self) -> Cache:
        """Refused: what a run captures is in its own cache.

        Raises:
            EngineError: always.
        """
        raise refusal("capture in a context", self.model.name)

    def told(self) -> dict[str, str]:
        """Where a cache comes from."""
        return self._provenance()
