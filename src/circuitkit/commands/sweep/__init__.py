"""`circuitkit sweep`: a grid of cells in a folder, run by as many processes and machines as there are.

Nothing here imports torch before a sweep is read, so that help is told at once.
"""

from cyclopts import App

from circuitkit.commands.sweep.reading import failures, status, table
from circuitkit.commands.sweep.running import cells, run

__all__ = ["sweep"]

_EXAMPLES = """\
A sweep is a TOML file that names a study, what is the same in all cells, and lists that are combined:

```
study = "ablation.sweep"
[parameters]
task = "deductions"
n = 24
[grid]
model = ["deductor-5k", "deductor-130k"]
how = ["zero", "mean"]
seed = [0, 1, 2]
```

```
circuitkit sweep cells heads.toml                        what would run
circuitkit sweep run heads.toml --out heads              run it; again to go on where it stopped
circuitkit sweep run heads.toml --out heads --workers 4 --dtype float32
circuitkit sweep run heads.toml --out heads --shard 3/10 one of ten jobs
circuitkit sweep run my_study.py:cells --out mine        cells from Python
circuitkit sweep status heads                            done, failed, running
circuitkit sweep failures heads                          tracebacks
circuitkit sweep table heads --csv heads.csv             the results
```
"""

sweep = App(name="sweep", help="Run a grid of cells that survives being killed.", help_epilogue=_EXAMPLES)
for _verb in (cells, run, status, failures, table):
    sweep.command(_verb, help_epilogue="")
