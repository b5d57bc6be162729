"""What attention scores of a long prompt cost as patterns stream by, beside holding every pattern.

The other way is what a user would write: the model with eager attention, `output_attentions=True`, and `token_scores`
of the patterns. Both give the same scores, which is checked first. Scores are of the last layer, or of all. Times are
ratios within a round, of the processor's time on a CPU; memory is what one call adds at its peak. Prints a table, and
one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import copy
import json
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from yardstick import peak
from yardstick.clock import Clock, machine

import circuitkit as ck

LENGTH, LAYERS, HEADS, KV_HEADS, D_HEAD = 4096, 6, 4, 2, 64


def build(layers: int, heads: int, length: int) -> Any:
    """A grouped-query decoder with random weights and few heads, whose patterns a small machine can hold."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=2_000,
        hidden_size=heads * D_HEAD,
        intermediate_size=4 * heads * D_HEAD,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=length,
    )
    return Qwen2ForCausalLM(config).eval().requires_grad_(False)


def eager_sibling(hf: Any) -> Any:
    """The same model on the same weights, with eager attention."""
    other = copy.deepcopy(hf, {id(weight): weight for weight in hf.parameters()})
    other.set_attn_implementation("eager")
    return other


def held(hf: Any, ids: Tensor, layers: list[int]) -> Tensor:
    """Scores of patterns that the model returns, `[layer, head, column]`."""
    with torch.inference_mode():
        patterns = hf(input_ids=ids, output_attentions=True, use_cache=False, logits_to_keep=1).attentions
        return torch.stack([ck.attention.token_scores(patterns[layer][0]) for layer in layers])


def streamed(model: ck.Model, ids: Tensor, layers: list[int]) -> Tensor:
    """Scores of patterns that stream by, `[layer, head, column]`."""
    return ck.attention.scores(model, ids, layers, progress=False).values[0]


def rows(
    quick: bool = False,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    length: int | None = None,
    layers: int = LAYERS,
    heads: int = HEADS,
    rounds: int = 5,
) -> list[dict[str, Any]]:
    """Measure scores of the last layer, and of all: times of each round and their ratios, and MiB at the peak.

    Raises SystemExit where the two ways give different scores.
    """
    length = length or (512 if quick else LENGTH)
    hf = build(2 if quick else layers, heads, length).to(device=device, dtype=dtype)
    eager, model = eager_sibling(hf), ck.Model(hf)
    ids = torch.randint(5, 2_000, (1, length), generator=torch.Generator().manual_seed(0)).to(device)
    clock = Clock(torch.device(device), processor=device == "cpu")
    measured = []
    for what, at in (("last", [model.n_layers - 1]), ("all", list(range(model.n_layers)))):
        off = float((streamed(model, ids, at) - held(eager, ids, at).cpu().to(torch.float32)).abs().max())
        if off > (1e-5 if dtype == torch.float32 else 5e-2):
            raise SystemExit(f"the two ways differ by {off} on scores of {what} layers")
        seconds = [
            (clock.seconds(lambda at=at: streamed(model, ids, at)), clock.seconds(lambda at=at: held(eager, ids, at)))
            for _ in range(1 if quick else rounds)
        ]
        ours = peak.added_mib(lambda at=at: streamed(model, ids, at), device)
        theirs = peak.added_mib(lambda at=at: held(eager, ids, at), device)
        measured.append(
            {
                "layers": what,
                "tokens": length,
                "seconds": median(mine for mine, _ in seconds),
                "held_seconds": median(other for _, other in seconds),
                "time_ratio": median(mine / other for mine, other in seconds),
                "mib": ours,
                "held_mib": theirs,
                "memory_ratio": None if ours is None or not theirs else ours / theirs,
                "largest_difference": off,
            }
        )
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, help=f"length of the prompt (default {LENGTH})")
    parser.add_argument("--layers", type=int, default=LAYERS, help=f"layers of the model (default {LAYERS})")
    parser.add_argument("--heads", type=int, default=HEADS, help=f"heads of a layer, an even number (default {HEADS})")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of timing (default 5)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--quick", action="store_true", help="two layers and 512 tokens, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = rows(
        options.quick,
        device=options.device,
        dtype=getattr(torch, options.dtype),
        length=options.tokens,
        layers=options.layers,
        heads=options.heads,
        rounds=options.rounds,
    )
    print(f"{'layers':>8}{'tokens':>8}{'s':>9}{'held s':>9}{'time':>8}{'MiB':>9}{'held MiB':>10}{'memory':>9}")
    for row in measured:
        seconds = f"{row['seconds']:>9.2f}{row['held_seconds']:>9.2f}{row['time_ratio']:>8.2f}"
        ratio = row["memory_ratio"]
        memory = "  this system does not tell" if ratio is None else f"{row['mib']:>9.0f}{row['held_mib']:>10.0f}"
        print(f"{row['layers']:>8}{row['tokens']:>8}{seconds}{memory}" + ("" if ratio is None else f"{ratio:>9.3f}"))
    told = {"benchmark": "attention_scores", "quick": options.quick, "heads": options.heads, "dtype": options.dtype}
    told |= {"machine": machine(torch.device(options.device)), "torch": torch.__version__, "rows": measured}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
