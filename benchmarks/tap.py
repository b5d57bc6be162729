"""What capturing costs: a plain forward, and `z` of every layer kept by circuitkit, TransformerLens and nnsight.

All run on the same random weights, of GPT-2 small's size with its full vocabulary, and take turns within each round, in
a different order each time; a ratio is taken within a round, so that a busy machine slows both of its sides. Prints a
table, and one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import copy
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nnsight
import torch
import transformers
from nnsight import TransformersModel
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
from yardstick import peak

import circuitkit as ck
from circuitkit.model.embedded import word_tokenizer

VOCABULARY = 50_257
SHAPES = ((8, 16), (1, 512))
TARGET = 1.10

Way = Callable[[Tensor], list[Tensor] | None]


def ways(hf: GPT2LMHeadModel, folder: Path) -> dict[str, Way]:
    """Each tool's way to one forward with `z` of every layer, `[batch, position, d_model]`; None where it keeps none.

    The other tools get copies, since a bridge changes the model that it is given.
    """
    hf.config.save_pretrained(folder)
    word_tokenizer(["a"], hf.config.n_positions).save_pretrained(folder)
    # Read back, because TransformerLens asks a tokenizer for the name that it was loaded by.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = ck.Model(hf, None)
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=copy.deepcopy(hf), tokenizer=tokenizer, device="cpu", dtype=torch.float32
    )
    traced = TransformersModel(copy.deepcopy(hf), tokenizer=tokenizer, task="text-generation")
    hook_names = [f"blocks.{layer}.attn.hook_z" for layer in range(hf.config.n_layer)]

    def plain(ids: Tensor) -> None:
        hf(input_ids=ids, use_cache=False)

    def ours(ids: Tensor) -> list[Tensor]:
        cache = model.run(ids, capture=["z"]).cache
        return [cache[site].flatten(2) for site in cache]

    def transformer_lens(ids: Tensor) -> list[Tensor]:
        kept = bridge.run_with_cache(ids, names_filter=lambda name: name.endswith("attn.hook_z"))[1]
        return [kept[name].flatten(2) for name in hook_names]

    def by_nnsight(ids: Tensor) -> list[Tensor]:
        kept = []
        with traced.trace({"input_ids": ids, "attention_mask": torch.ones_like(ids)}):
            for block in traced.transformer.h:
                kept.append(block.attn.c_proj.input.save())
        return kept

    return {"plain": plain, "circuitkit": ours, "transformer_lens": transformer_lens, "nnsight": by_nnsight}


def agree(each: dict[str, Way], ids: Tensor) -> float:
    """The largest difference between what the tools keep, which has to be rounding before speed means anything."""
    reference = each["circuitkit"](ids)
    worst = 0.0
    for name in ("transformer_lens", "nnsight"):
        for a, b in zip(reference, each[name](ids), strict=True):
            worst = max(worst, float((a - b).abs().max()))
    if not worst < 1e-3:
        raise SystemExit(f"the tools disagree by {worst:.1e}: there is nothing to compare")
    return worst


def measure(each: dict[str, Way], ids: Tensor, rounds: int) -> dict[str, dict[str, float | None]]:
    """Seconds and paired ratios to the plain forward of the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in each}
    cpu: dict[str, list[float]] = {name: [] for name in each}
    names = list(each)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            began, worked = time.perf_counter(), time.process_time()
            each[name](ids)
            cpu[name].append(time.process_time() - worked)
            seconds[name].append(time.perf_counter() - began)
    rows: dict[str, dict[str, float | None]] = {}
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(taken, seconds["plain"], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "seconds": statistics.median(taken),
            "fastest": min(taken),
            "ratio": median,
            "ratio_low": low,
            "ratio_high": high,
            "ratio_of_fastest": min(taken) / min(seconds["plain"]),
            "cpu_ratio": statistics.median(a / b for a, b in zip(cpu[name], cpu["plain"], strict=True)),
            "peak_mib": peak.added_mib(lambda way=each[name]: way(ids)),
        }
    return rows


def show(shape: tuple[int, int], rows: dict[str, dict[str, float | None]]) -> None:
    """Print one shape's table."""
    print(f"\n{shape[0]} x {shape[1]} tokens")
    heads = (
        f"{'median s':>10}{'fastest s':>11}{'ratio':>8}{'quartiles':>16}{'of fastest':>12}{'cpu':>8}{'peak MiB':>10}"
    )
    print(f"{'':<18}{heads}")
    for name, row in rows.items():
        spread = f"{row['ratio_low']:.3f}-{row['ratio_high']:.3f}"
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        print(
            f"{name:<18}{row['seconds']:>10.4f}{row['fastest']:>11.4f}{row['ratio']:>8.3f}{spread:>16}"
            f"{row['ratio_of_fastest']:>12.3f}{row['cpu_ratio']:>8.3f}{peak:>10}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each tool at each shape (default 30)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = {"n_layer": 2, "n_embd": 128, "n_head": 4} if options.quick else {}
    rounds = 4 if options.quick else options.rounds
    hf = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **size)).eval().requires_grad_(False)
    results = {}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        each = ways(hf, Path(folder))
        for shape in SHAPES:
            ids = torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0))
            for way in each.values():
                way(ids)
            difference = agree(each, ids)
            rows = measure(each, ids, rounds)
            show(shape, rows)
            results[f"{shape[0]}x{shape[1]}"] = {"difference": difference, **rows}
    met = all(result["circuitkit"]["ratio"] <= TARGET for result in results.values())
    print(
        json.dumps(
            {
                "benchmark": "tap",
                "quick": options.quick,
                "rounds": rounds,
                "threads": options.threads,
                "parameters": sum(p.numel() for p in hf.parameters()),
                "machine": platform.machine(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "nnsight": nnsight.__version__,
                "target": TARGET,
                "met": met,
                "shapes": results,
            }
        )
    )


if __name__ == "__main__":
    main()
