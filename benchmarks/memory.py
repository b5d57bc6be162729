"""How much memory a thousand cells take on a model of 24 layers, beside a plain forward's and a budget.

The cells patch the stream (every layer x position) and heads (`z`), by values that are made beforehand. `peak` is what
a call adds to the process at its peak (on a GPU, to the device's tensors); the bound is what a plain forward of the
same prompts adds, and the budget that the executor was given. Prints a table, and one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from yardstick import peak
from yardstick.clock import machine
from yardstick.shapes import Prompts, cells, places

import circuitkit as ck
from circuitkit.metrics import logit_difference
from circuitkit.run.executor import measure

LAYERS, CELLS = 24, 1000


def build(width: int, vocabulary: int) -> Any:
    """A model of Qwen2.5-0.5B's depth and proportions, of some width."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 38 // 7,
        num_hidden_layers=LAYERS,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=224, help="the stream's width, of 14 heads (default 224)")
    parser.add_argument("--vocabulary", type=int, default=32_000, help="tokens of the vocabulary (default 32000)")
    parser.add_argument("--prompts", type=int, default=4, help="prompts (default 4)")
    parser.add_argument("--budgets", type=int, nargs="+", default=[16, 64, 256], help="MiB (default 16 64 256)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--quick", action="store_true", help="a narrow model and 200 cells, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, vocabulary = (56, 500) if options.quick else (options.width, options.vocabulary)
    budgets, count = (options.budgets[:1], 200) if options.quick else (options.budgets, CELLS)
    hf = build(width, vocabulary).to(device=options.device, dtype=getattr(torch, options.dtype))
    model = ck.Model(hf)
    prompts = Prompts.draw(model, options.prompts, 0)
    each = [cell for over in ("resid_pre", "z") for cell in cells(model, prompts, over, places(model, over))][:count]
    tokens = model.tokens(prompts.corrupt)

    def sweep(some: list[Any], budget: int) -> torch.Tensor:
        return measure(model, tokens, prompts.targets, logit_difference, some, progress=False, budget=budget * 2**20)

    # Shortcuts are tried at a model's first use.
    sweep(each[-1:], budgets[0])
    with torch.inference_mode():
        hf(input_ids=prompts.corrupt, use_cache=False)
        plain = peak.added_mib(lambda: hf(input_ids=prompts.corrupt, use_cache=False), options.device)
    rows = []
    print(f"{len(each)} cells, {LAYERS} layers of width {width}, {options.prompts} prompts")
    print(f"{'budget MiB':>11}{'plain MiB':>11}{'bound MiB':>11}{'peak MiB':>11}   within")
    for budget in budgets:
        added = peak.added_mib(lambda budget=budget: sweep(each, budget), options.device)
        bound = None if plain is None else plain + budget
        within = None if added is None or bound is None else added <= bound
        rows.append({"budget": budget, "plain": plain, "bound": bound, "peak": added, "within": within})
        told = ["" if value is None else f"{value:.0f}" for value in (budget, plain, bound, added)]
        said = {True: "yes", False: "no", None: "this system does not tell"}[within]
        print("".join(f"{value:>11}" for value in told) + f"   {said}", flush=True)
    print(
        json.dumps(
            {
                "benchmark": "memory",
                "quick": options.quick,
                "cells": len(each),
                "layers": LAYERS,
                "width": width,
                "vocabulary": vocabulary,
                "prompts": options.prompts,
                "dtype": options.dtype,
                "machine": machine(torch.device(options.device)),
                "torch": torch.__version__,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
