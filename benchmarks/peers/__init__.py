"""The other tools' ways to run cells of a sweep, on the same weights and prompts.

Each `cells_by(hf, prompts, over)` gives a function of a layer and of heads or positions in it, which runs these cells
and returns the metric `[cell * example]`; it may change `hf`. All cells of one call share a forward where the tool can.
"""

from collections.abc import Callable
from typing import Any

from yardstick.shapes import Prompts

from peers import by_nnsight, by_pyvene, by_transformer_lens
from peers.sampled import Cells

Way = Callable[[Any, Prompts, str], Cells]

WAYS: dict[str, Way] = {
    "TransformerLens": by_transformer_lens.cells_by,
    "nnsight": by_nnsight.cells_by,
    "nnsight, last logits": by_nnsight.cells_by_last_logits,
    "pyvene": by_pyvene.cells_by,
}
ONE_AT_A_TIME = ("TransformerLens",)
