"""The papers' choices, by name. What a paper does not state is said here, and is any user's to set otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from circuitkit.training.errors import TrainingError
from circuitkit.training.recipe import LoRA, Recipe

_THRESHOLDS = Recipe(
    learning_rate=2e-5,
    epochs=100,
    batch_size=8,
    schedule="linear",
    weight_decay=0.01,
    loss_on="everything",
    layout="pack",
    pack_examples=1000,
    context=1024,
    end=False,
    evaluate_every="epoch",
    rule="best",
)
# Batch, rate, decay, schedule, steps and rule are the paper's. It does not state betas, warm-up, template and the loss
# on the reply alone, which are those of the s1 pipeline that its settings equal, nor how often it evaluated.
_ELICITATION = Recipe(
    learning_rate=1e-5,
    max_steps=300,
    batch_size=16,
    schedule="cosine",
    warmup=0.05,
    weight_decay=1e-4,
    betas=(0.9, 0.95),
    loss_on="chain",
    text="chat",
    evaluate_every=20,
    rule="last within",
    margin=0.1,
)

PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        # Hsiao & Dutta 2025 (arXiv 2502.15120), from its first version's code: transformers' defaults of the time, the
        # loss on every token, no end token between examples, a remainder dropped of each 1,000.
        "thresholds": _THRESHOLDS,
        # Their revision: the last two blocks alone, an example a row. (There the loss was on padding too.)
        "thresholds-revision": _THRESHOLDS.but(layout="pad", pack_examples=None, layers=(-2, -1), context=None),
        # Reasoning Elicitation is Scale Dependent (NeurIPS 2025 workshop).
        "elicitation": _ELICITATION,
        # The same by an adapter of rank 1 on all linear layers; no validation set, so that the last step counts. Its
        # alpha is not stated.
        "elicitation-lora": _ELICITATION.but(learning_rate=1e-3, lora=LoRA(1), rule="last"),
        # Shao & Wu 2025 (arXiv 2505.20993): some modules (train=(…)), with embedding, head and norms always.
        "freeze": _ELICITATION.but(
            max_steps=None, epochs=5, train=("o_proj",), always=("embed", "lm_head", "norm"), rule="last"
        ),
        # Thinking Sparks (arXiv 2509.25758), its checkpoints every 100 steps. Batch and schedule are not stated.
        "thinking-sparks-sft": Recipe(
            learning_rate=4e-5,
            epochs=5,
            schedule="cosine",
            warmup=0.03,
            text="chat",
            dtype="bfloat16",
            checkpoint_every=100,
            keep="all",
        ),
        "thinking-sparks-grpo": Recipe(
            method="grpo",
            learning_rate=1e-6,
            epochs=3,
            schedule="cosine",
            warmup=0.1,
            group=16,
            dtype="bfloat16",
            text="chat",
            checkpoint_every=100,
            keep="all",
        ),
    }
)
"""Recipes by name."""


def preset(name: str | None) -> Recipe:
    """The recipe of a name; the defaults for None.

    Raises:
        TrainingError: there is no such preset.

    >>> preset("elicitation").rule
    'last within'
    """
    if name is None:
        return Recipe()
    if name not in PRESETS:
        raise TrainingError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
