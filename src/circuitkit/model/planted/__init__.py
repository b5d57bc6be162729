"""Models whose weights are set by hand, so that a method can be checked against a known circuit.

Four ideas make them. The residual stream is divided into orthogonal subspaces (`stream`), one for each thing
that heads tell each other. A head is a lookup written as four matrices between subspaces (`heads`). The same
heads fit GPT-2 and Llama, which differ in where the weights are kept and in how a head sees position
(`architectures`). All other heads and MLPs are random, and write as much as the planted ones do (`circuits`).

>>> names()
['planted-induction-gpt2', 'planted-induction-llama', 'planted-two-hop-gpt2', 'planted-two-hop-llama']
"""

from __future__ import annotations

from typing import Literal

from circuitkit.model.planted.circuits import Planted, induction, two_hop
from circuitkit.model.planted.words import PlantedPairs

__all__ = ["Planted", "PlantedPairs", "build", "induction", "names", "two_hop"]

_ARCHITECTURES: tuple[Literal["gpt2", "llama"], ...] = ("gpt2", "llama")
_BUILDERS = {
    f"planted-{task}-{architecture}": (plant, architecture)
    for task, plant in (("induction", induction), ("two-hop", two_hop))
    for architecture in _ARCHITECTURES
}


def names() -> list[str]:
    """Return the names of the planted models.

    >>> "planted-induction-llama" in names()
    True
    """
    return list(_BUILDERS)


def build(name: str, seed: int = 0) -> Planted:
    """Build a planted model by name; the seed draws its directions, its noise and the places of its heads.

    Raises ValueError for an unknown name.

    >>> build("planted-two-hop-gpt2").name
    'planted-two-hop-gpt2'
    """
    if name not in _BUILDERS:
        raise ValueError(f"no planted model is called {name!r}; there are {', '.join(_BUILDERS)}")
    plant, architecture = _BUILDERS[name]
    return plant(architecture, seed)
