"""What is swept: models of known shapes with random weights, prompts with a first corrupted token, and cells."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

import circuitkit as ck
from circuitkit.metrics import Targets
from circuitkit.run import Interventions

LENGTH = 32
NAMES = ("gpt2-small", "qwen2.5-0.5b", "deductor-1m")


def models(names: list[str], quick: bool, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
    """The named shapes: with random weights, and few narrow layers where only the run is tried."""
    for name in names:
        yield name, _build(name, quick).to(device=device, dtype=dtype).eval().requires_grad_(False)


def _build(name: str, quick: bool) -> Any:
    torch.manual_seed(0)
    if name == "gpt2-small":
        return GPT2LMHeadModel(GPT2Config(**({"n_layer": 2, "n_embd": 96} if quick else {})))
    if name == "qwen2.5-0.5b":
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=2_000 if quick else 151_936,
                hidden_size=112 if quick else 896,
                intermediate_size=128 if quick else 4864,
                num_hidden_layers=2 if quick else 24,
                num_attention_heads=14,
                num_key_value_heads=2,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
            )
        )
    return ck.load(name).hf


def sibling(hf: Any) -> Any:
    """The same model in modules of its own, on the same weights: a tool may change the modules that it is given."""
    return copy.deepcopy(hf, {id(weight): weight for weight in (*hf.parameters(), *hf.buffers())})


@dataclass(frozen=True)
class Prompts:
    """Clean prompts, the same corrupted from some token on, and what is read behind them.

    Attributes:
        clean: token ids, `[example, position]`.
        corrupt: token ids, `[example, position]`.
        corrupted: the first position at which they differ.
        targets: an answer and a distractor for each.
    """

    clean: Tensor
    corrupt: Tensor
    corrupted: int
    targets: Targets

    @classmethod
    def draw(cls, model: ck.Model, n: int, corrupted: int, length: int = LENGTH) -> "Prompts":
        """Random tokens, by a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        vocabulary = min(model.config.vocab_size, 300)

        def ids(columns: int) -> Tensor:
            return torch.randint(5, vocabulary, (n, columns), generator=generator)

        clean = ids(length)
        # A token that is drawn again would leave its cells nothing to do.
        shifted = (clean - 5 + torch.randint(1, vocabulary - 5, clean.shape, generator=generator)) % (
            vocabulary - 5
        ) + 5
        corrupt = torch.where(torch.arange(length) < corrupted, clean, shifted)
        device = model.hf.device
        targets = Targets(ids(1), ids(1)).to(device)
        return cls(clean.to(device), corrupt.to(device), corrupted, targets)

    def __len__(self) -> int:
        return len(self.clean)


def places(model: ck.Model, over: str, length: int = LENGTH) -> list[tuple[int, int]]:
    """Every cell of a sweep: a layer, and a head (`z`) or a position (`resid_pre`)."""
    return [
        (layer, at) for layer in range(model.n_layers) for at in range(model.n_heads(layer) if over == "z" else length)
    ]


def cells(model: ck.Model, prompts: Prompts, over: str, at: list[tuple[int, int]]) -> list[Interventions]:
    """Denoising cells: the clean run's values at these layers and heads or positions."""
    kept = model.run(prompts.clean, capture=[over]).cache
    axis = "head" if over == "z" else "position"
    sites = [ck.Site(over, layer=layer, **{axis: where}) for layer, where in at]
    return [[ck.replace(site, kept[site])] for site in sites]
