"""`circuitkit attention`: where heads look, what that scores tokens at, and how far the scores can be trusted.

The verb alone captures and draws the patterns of one layer; a word behind it names another study, a function each.
Nothing here imports torch before a study runs, so that help is told at once.
"""

from cyclopts import App

from circuitkit.commands.attention.capturing import capturing
from circuitkit.commands.attention.gold import gold
from circuitkit.commands.attention.precisions import agreement
from circuitkit.commands.attention.profiling import profile
from circuitkit.commands.attention.scoring import scores

__all__ = ["attention"]

_EXAMPLES = """\
With MODEL and PROMPT alone, one layer's patterns are captured, drawn and scored; that holds maps of all tokens by all
tokens. A word before MODEL names another study, which keeps no map and so reads long prompts; each has its own --help.

```
circuitkit attention deductor-130k "Every wumpus is a dumpus."
circuitkit attention scores deductor-130k "Every wumpus is a dumpus." --all-layers
circuitkit attention scores gpt2 --prompts long.txt --heads 0
circuitkit attention gold deductor-130k --rule implication_elimination --n 20
circuitkit attention profile deductor-130k "Every wumpus is a dumpus. Fae is a wumpus."
circuitkit attention agreement deductor-130k "Every wumpus is a dumpus. Fae is a wumpus." --top 5
```
"""

attention = App(name="attention", help_epilogue=_EXAMPLES)
attention.default(capturing)
for _study in (scores, gold, profile, agreement):
    attention.command(_study, help_epilogue="")
