"""Studies that survive: sweeps over cells, kept as they end, on one machine or many.

`cells` says what is asked for and `identity` names it, `folder` keeps what ended, `claims` settle who runs what,
backends run, and `running` drives them; `table` reads it all back.
"""

from circuitkit.studies.backends import Backend, InProcess
from circuitkit.studies.cells import Cell, NamedCell, grid
from circuitkit.studies.errors import SweepError, SweepStoppedError
from circuitkit.studies.outcomes import Outcome, run_cell
from circuitkit.studies.pretrained import Pretrained
from circuitkit.studies.records import Failure, Record
from circuitkit.studies.running import sweep
from circuitkit.studies.table import Sweep
from circuitkit.studies.workers import Processes

__all__ = [
    "Backend",
    "Cell",
    "Failure",
    "InProcess",
    "NamedCell",
    "Outcome",
    "Pretrained",
    "Processes",
    "Record",
    "Sweep",
    "SweepError",
    "SweepStoppedError",
    "grid",
    "run_cell",
    "sweep",
]
