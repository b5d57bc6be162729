"""`circuitkit circuit`: which edges between heads and MLPs carry a behaviour, and what they do alone.

Nothing here imports torch before a study runs, so that help is told at once.
"""

from cyclopts import App

from circuitkit.commands.circuit.compare import compare
from circuitkit.commands.circuit.evaluate import evaluate
from circuitkit.commands.circuit.find import find
from circuitkit.commands.circuit.show import show

__all__ = ["circuit"]

_EXAMPLES = """\
find scores every edge of a model and cuts the circuit out; evaluate runs circuits of all sizes with everything else
patched; compare tells which heads post-training made active; show prints and draws what a file holds. Each has its own
--help.

```
circuitkit circuit find deductor-130k --top 40 --out circuit
circuitkit circuit find gpt2 --task indirect-objects --method eap-ig --steps 5
circuitkit circuit evaluate deductor-130k circuit/graph.safetensors
circuitkit circuit compare deductor-130k-base deductor-130k --top 40
circuitkit circuit show circuit/graph.safetensors
```
"""

circuit = App(
    name="circuit",
    help="Find which edges between heads and MLPs carry a behaviour, how well they do alone, and how sure that is.",
    help_epilogue=_EXAMPLES,
)
for _study in (find, evaluate, compare, show):
    circuit.command(_study, help_epilogue="")
