"""`circuitkit ablate`: what a model loses with heads or neurons that write nothing, their mean, or something else.

The verb alone ablates one head at a time; a word behind it names another study, a function each. Nothing here imports
torch before a study runs, so that help is told at once.
"""

from cyclopts import App

from circuitkit.commands.ablate.effects import effects
from circuitkit.commands.ablate.heads import heads
from circuitkit.commands.ablate.neurons import neurons
from circuitkit.commands.ablate.together import grow, sets

__all__ = ["ablate"]

_EXAMPLES = """\
With MODEL alone, one head at a time is ablated. A word before MODEL names another study; each has its own --help. A
head is written LAYER.HEAD: 2.1 is head 1 of layer 2.

```
circuitkit ablate deductor-130k                     layer x head map
circuitkit ablate deductor-130k --how scale --factor 0.5
circuitkit ablate gpt2 --task indirect-objects --how mean --reference other_prompts.txt
circuitkit ablate sets deductor-130k --set early=0.1,0.2 --set late=2.1,2.3
circuitkit ablate grow deductor-130k --size 4
circuitkit ablate effects deductor-130k
circuitkit ablate neurons deductor-130k --layers 0
```
"""

ablate = App(name="ablate", help_epilogue=_EXAMPLES)
ablate.default(heads)
for _study in (sets, grow, effects, neurons):
    ablate.command(_study, help_epilogue="")
