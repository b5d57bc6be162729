"""How alike two models are: in what they hold of the same tokens, and in how their weights moved.

`cka` compares representations, `movement` and `alignment` compare weights module by module.
"""

from circuitkit.similarity.kernels import RunningCKA, cka
from circuitkit.similarity.representations import layer_similarity, representations

__all__ = ["RunningCKA", "cka", "layer_similarity", "representations"]
