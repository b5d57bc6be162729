"""`circuitkit patch`: which activations, paths and attention, moved between two runs, move the answer.

The verb alone sweeps over one kind of activation; a word behind it names another study, a function each. Nothing here
imports torch before a study runs, so that help is told at once.
"""

from cyclopts import App

from circuitkit.commands.patch.attention import edges, freeze, transplant
from circuitkit.commands.patch.generation import generate
from circuitkit.commands.patch.paths import direct, paths
from circuitkit.commands.patch.sweep import sweep
from circuitkit.commands.patch.trace import trace

__all__ = ["patch"]

_EXAMPLES = """\
With MODEL alone, one kind of activation is patched everywhere, one cell at a time. A word before MODEL names another
study; each has its own --help. A site is written KIND.LAYER.HEAD@POSITION, all but the kind as needed: z.2.1 is head 1
of layer 2, mlp_out.0 an MLP, resid_pre.1@-1 what enters layer 1 at the last token. Sites joined by + go together.

```
circuitkit patch deductor-130k                      layer x position map
circuitkit patch deductor-130k --over z             layer x head map
circuitkit patch deductor-130k --over attn_out --window 2 --direction noise
circuitkit patch deductor-130k --set early=z.0.1+z.0.2 --set mlps=mlp_out.0+mlp_out.1
circuitkit patch gpt2 --task indirect-objects --over z --source mean
circuitkit patch paths deductor-130k --from z --to logits
circuitkit patch edges deductor-130k --span rules=role:rule --span last=at:-1
```
"""

patch = App(name="patch", help_epilogue=_EXAMPLES)
patch.default(sweep)
for _study in (paths, direct, trace, edges, transplant, freeze, generate):
    patch.command(_study, help_epilogue="")
