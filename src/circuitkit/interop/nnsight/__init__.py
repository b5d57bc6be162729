"""nnsight as an engine: studies of a model that runs elsewhere, on NDIF, and of which nothing is here but its config.

`circuitkit.load(name, engine="nnsight", remote=True)` gives an `NnsightModel`, a `circuitkit.Model` without weights.
`twin` and `structure` find its sites from the config, `recipes` and `programs` turn interventions into plain data, and
`far_side` holds all the code that travels with them.
"""

from circuitkit.interop.nnsight.engine import NnsightModel
from circuitkit.interop.nnsight.limits import EngineError

__all__ = ["EngineError", "NnsightModel"]
