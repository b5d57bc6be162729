"""How alike two models are: in what they hold of the same tokens, and in how their weights moved.

`cka` compares representations, layer by layer with `layer_similarity`; `movement` and `alignment` compare weights.
"""

from circuitkit.similarity.kernels import RunningCKA, cka
from circuitkit.similarity.movement import alignment, movement, stable_rank
from circuitkit.similarity.representations import layer_similarity, representations

__all__ = ["RunningCKA", "alignment", "cka", "layer_similarity", "movement", "representations", "stable_rank"]
