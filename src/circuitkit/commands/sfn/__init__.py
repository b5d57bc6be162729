"""`circuitkit sfn`: the four gadgets of Stethoscope for Networks on checkpoints of any size.

Nothing here imports torch before a gadget runs, so that help is told at once.
"""

from cyclopts import App

from circuitkit.commands.sfn.delta import delta
from circuitkit.commands.sfn.destroy import destroy
from circuitkit.commands.sfn.freeze import freeze
from circuitkit.commands.sfn.merge import merge

__all__ = ["sfn"]

_EXAMPLES = """\
A checkpoint is an embedded model (deductor-130k-base), a folder with safetensors, or a hub id; A is the base, B a model
trained from it. Checkpoints pass by in blocks, so that memory does not grow with them, and no source is written to.

```
circuitkit sfn delta deductor-130k-base deductor-130k-reason --out delta
circuitkit sfn merge deductor-130k-base deductor-130k-reason \\
    --modules o_proj --out grafted
circuitkit sfn freeze deductor-130k-base --train o_proj embed lm_head norm
circuitkit sfn destroy deductor-130k-reason --modules q_proj --layers 1-2 \\
    --how zero --out without-q
circuitkit eval grafted --task prontoqa/implication_elimination/2 --shots 0
```
"""

sfn = App(
    name="sfn",
    help="Find which modules of a model do the reasoning, from its weights and those of the model it was trained from.",
    help_epilogue=_EXAMPLES,
)
for _gadget in (delta, merge, freeze, destroy):
    sfn.command(_gadget, help_epilogue="")
