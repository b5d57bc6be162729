"""Training: fine-tuning in full or by a low-rank adapter, some modules frozen, distillation, and GRPO, in a folder."""

from circuitkit.training.errors import TrainingError
from circuitkit.training.examples import Example, examples_of
from circuitkit.training.outcome import Trained
from circuitkit.training.presets import PRESETS, preset
from circuitkit.training.recipe import LoRA, Recipe
from circuitkit.training.rules import choose
from circuitkit.training.running import train
from circuitkit.training.subsets import Subsets, nested_subsets
from circuitkit.training.taught import taught

__all__ = [
    "PRESETS",
    "Example",
    "LoRA",
    "Recipe",
    "Subsets",
    "Trained",
    "TrainingError",
    "choose",
    "examples_of",
    "nested_subsets",
    "preset",
    "taught",
    "train",
]
