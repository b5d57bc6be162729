"""How fast a patching sweep is: against the work that no exact method can avoid, and beside the other tools.

Each row is a sweep over every cell of a model: the residual stream (layer x position) or every head (`z`, all
positions), with the first corrupted token at some position. Its floor counts the floating-point operations of what can
still change (layers from the first one touched, columns from the first one changed, the last layer only where logits
are read) at the rate that the plain forward of a large batch reaches on this machine, measured in the same round. The
other tools run a stratified sample of cells on the same weights and prompts, in turn with ours. Prints a table, and one
JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

import circuitkit as ck
from circuitkit.metrics import Targets, logit_difference
from circuitkit.model.embedded import word_tokenizer
from circuitkit.run.executor import measure

PROMPTS, LENGTH, CORRUPTED = 4, 32, (0, 8, 16)
RATE_ROWS = 16


def models(quick: bool) -> Iterator[tuple[str, Any]]:
    """The shapes, with random weights: small ones where only the run is tried."""
    torch.manual_seed(0)
    layers = 2 if quick else 12
    yield "gpt2-small", GPT2LMHeadModel(GPT2Config(n_layer=layers, **({"n_embd": 96} if quick else {})))
    torch.manual_seed(0)
    qwen = Qwen2Config(
        vocab_size=151_936,
        hidden_size=112 if quick else 896,
        intermediate_size=128 if quick else 4864,
        num_hidden_layers=2 if quick else 24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    yield "qwen2.5-0.5b", Qwen2ForCausalLM(qwen)
    yield "deductor-1m", ck.load("deductor-1m").hf


def operations(model: ck.Model, layer: int, first: int, over: str) -> float:
    """Floating-point operations of one row of a cell that no exact method avoids, without the logits."""
    config: Any = model.config
    d = model.d_model
    wide = int(getattr(config, "intermediate_size", None) or 4 * d)
    gated = 3 if hasattr(config, "hidden_act") else 2
    heads = model.layers[layer].d_head or 0
    kv = 2 * model.n_kv_heads(layer) * heads
    q = model.n_heads(layer) * heads
    columns = LENGTH - first
    mlp, out = 2 * gated * d * wide, 2 * q * d
    attention = 2 * d * (q + kv) + 4 * q * (LENGTH + first) / 2
    total = 0.0
    for at in range(layer, model.n_layers):
        last = at == model.n_layers - 1
        read = 1 if last else columns
        attends = 0.0 if over == "z" and at == layer else attention
        if last and attends:
            # Keys and values of every column that changed, but a query, an output and an MLP only where it is read.
            attends = (2 * d * kv * columns + 2 * d * q + 4 * q * LENGTH) / columns
        total += attends * columns + (out + mlp) * read
    return total


def forward_operations(model: ck.Model) -> float:
    """The same count for one row of a plain forward, the logits of one position included."""
    config: Any = model.config
    d = model.d_model
    wide = int(getattr(config, "intermediate_size", None) or 4 * d)
    gated = 3 if hasattr(config, "hidden_act") else 2
    heads = model.layers[0].d_head or 0
    q, kv = model.n_heads(0) * heads, 2 * model.n_kv_heads(0) * heads
    a_column = 2 * d * (q + kv) + 4 * q * LENGTH / 2 + 2 * q * d + 2 * gated * d * wide
    return float(model.n_layers * LENGTH * a_column + 2 * d * config.vocab_size)


def cells_of(model: ck.Model, clean: Tensor, corrupt: Tensor, over: str) -> list[list[Any]]:
    """Every cell of a denoising sweep."""
    kept = model.run(clean, capture=[over]).cache
    sites = [
        ck.Site(over, layer=layer, **({"head": at} if over == "z" else {"position": at}))
        for layer in range(model.n_layers)
        for at in range(model.n_heads(layer) if over == "z" else LENGTH)
    ]
    return [[ck.replace(site, kept[site])] for site in sites]


def floor_seconds(model: ck.Model, over: str, corrupted: int, rate: float) -> float:
    """Seconds that the sweep's unavoidable operations take at a rate, the base runs included."""
    logits = 2.0 * model.d_model * model.config.vocab_size
    total = 0.0
    for layer in range(model.n_layers):
        changed = [corrupted] * model.n_heads(layer) if over == "z" else [at for at in range(LENGTH) if at >= corrupted]
        total += sum(operations(model, layer, first, over) + logits for first in changed)
    return PROMPTS * (total + forward_operations(model)) / rate


def timed(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    began = clock()
    run()
    return clock() - began


def ours(model: ck.Model, clean: Tensor, corrupt: Tensor, over: str, targets: Targets) -> Callable[[], Tensor]:
    """A whole sweep by circuitkit."""
    cells = cells_of(model, clean, corrupt, over)
    tokens = model.tokens(corrupt)
    return lambda: measure(model, tokens, targets, logit_difference, cells, progress=False)


def transformer_lens_cell(hf: Any, clean: Tensor, corrupt: Tensor, over: str, targets: Targets) -> Callable[..., Any]:
    """One cell of TransformerLens's own sweep: its whole forward under one hook, as `get_act_patch_*` runs it."""
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:
        hf.config.save_pretrained(folder)
        word_tokenizer(["a"], 1024).save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=hf, tokenizer=AutoTokenizer.from_pretrained(folder), device="cpu", dtype=torch.float32
        )
    name = "hook_resid_pre" if over == "resid_pre" else "attn.hook_z"
    kept = bridge.run_with_cache(clean, names_filter=lambda hook: hook.endswith(name))[1]

    def cell(layer: int, at: int) -> Tensor:
        hook_name = f"blocks.{layer}.{name}"

        def patch(value: Tensor, hook: Any) -> Tensor:
            if over == "z":
                value[:, :, at] = kept[hook_name][:, :, at]
            else:
                value[:, at] = kept[hook_name][:, at]
            return value

        logits = bridge.run_with_hooks(corrupt, fwd_hooks=[(hook_name, patch)])
        return logit_difference(logits[:, -1], targets)

    return cell


def nnsight_cells(hf: Any, clean: Tensor, corrupt: Tensor, over: str, targets: Targets) -> Callable[..., Any]:
    """A batch of cells by nnsight: the prompts once a cell along the batch, each edited in its own rows."""
    from nnsight import TransformersModel

    traced = TransformersModel(hf, tokenizer=word_tokenizer(["a"], 1024), task="text-generation")
    blocks = "transformer.h" if hasattr(hf, "transformer") else "model.layers"
    attention = "attn.c_proj" if hasattr(hf, "transformer") else "self_attn.o_proj"

    def at_layer(layer: int) -> Any:
        module = traced
        for part in (*blocks.split("."),):
            module = getattr(module, part)
        return module[layer]

    def projection(layer: int) -> Any:
        module = at_layer(layer)
        for part in attention.split("."):
            module = getattr(module, part)
        return module

    n_heads = hf.config.num_attention_heads
    kept: dict[int, Tensor] = {}
    for layer in range(hf.config.num_hidden_layers):
        with traced.trace({"input_ids": clean, "attention_mask": torch.ones_like(clean)}):
            value = (projection(layer) if over == "z" else at_layer(layer)).input.save()
        kept[layer] = value

    def cells(layer: int, ats: list[int]) -> Tensor:
        rows, n = corrupt.repeat(len(ats), 1), len(corrupt)
        with traced.trace({"input_ids": rows, "attention_mask": torch.ones_like(rows)}):
            value = (projection(layer) if over == "z" else at_layer(layer)).input
            for number, at in enumerate(ats):
                if over == "z":
                    d = value.shape[-1] // n_heads
                    value[number * n : (number + 1) * n, :, at * d : (at + 1) * d] = kept[layer][
                        :, :, at * d : (at + 1) * d
                    ]
                else:
                    value[number * n : (number + 1) * n, at] = kept[layer][:, at]
            logits = traced.output.logits[:, -1].save()
        return logit_difference(logits, targets.select(torch.arange(n).repeat(len(ats))))

    return cells


def peers(hf: Any, model: ck.Model, clean: Tensor, corrupt: Tensor, over: str, targets: Targets) -> dict[str, Any]:
    """Each other tool's way to a sample of cells, scaled up to all of them; a tool that cannot is left out by name."""
    found: dict[str, Any] = {}
    n_cells = sum(model.n_heads(layer) if over == "z" else LENGTH for layer in range(model.n_layers))
    ats = [0, 1] if over == "z" else [LENGTH // 2, LENGTH - 2]
    layers = sorted({0, model.n_layers // 2, model.n_layers - 1})
    with suppress(Exception):
        cell = transformer_lens_cell(hf, clean, corrupt, over, targets)
        found["transformer_lens"] = (
            lambda: [cell(layer, at) for layer in layers for at in ats],
            n_cells / (len(layers) * len(ats)),
        )
    with suppress(Exception):
        batched = nnsight_cells(hf, clean, corrupt, over, targets)
        found["nnsight"] = (lambda: [batched(layer, ats) for layer in layers], n_cells / (len(layers) * len(ats)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each tool (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--model", help="one model only, such as gpt2-small")
    parser.add_argument("--over", choices=["z", "resid_pre"], help="one kind of sweep only")
    parser.add_argument("--corrupted", type=int, choices=CORRUPTED, help="one first corrupted position only")
    parser.add_argument("--cpu-clock", action="store_true", help="processor time instead of the clock (busy machines)")
    parser.add_argument("--no-peers", action="store_true", help="ours and the floor alone")
    parser.add_argument("--quick", action="store_true", help="small models and one round, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_clock else time.perf_counter
    rows: list[dict[str, Any]] = []
    print(f"{'model':<14}{'over':<11}{'from':>5}{'ours s':>9}{'floor s':>9}{'of floor':>9}   times ours: peers")
    for name, hf in models(options.quick):
        if options.model not in (None, name):
            continue
        hf.eval().requires_grad_(False)
        model = ck.Model(hf)
        for over in ("z", "resid_pre") if options.over is None else (options.over,):
            for corrupted in CORRUPTED if options.corrupted is None else (options.corrupted,):
                rows.append(row(name, hf, model, over, corrupted, options, clock))
                told = rows[-1]
                others = ", ".join(f"{peer} {times:.2f}" for peer, times in told["times_ours"].items())
                print(
                    f"{name:<14}{over:<11}{corrupted:>5}{told['seconds']:>9.3f}{told['floor']:>9.3f}"
                    f"{told['of_floor']:>9.2f}   {others}",
                    flush=True,
                )
    print(
        json.dumps(
            {
                "benchmark": "sweeps",
                "quick": options.quick,
                "threads": options.threads,
                "clock": "processor" if options.cpu_clock else "wall",
                "machine": platform.machine(),
                "torch": torch.__version__,
                "rows": rows,
            }
        )
    )


def row(name: str, hf: Any, model: ck.Model, over: str, corrupted: int, options: Any, clock: Any) -> dict[str, Any]:
    """One sweep's figures."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = min(model.config.vocab_size, 300)
    clean = torch.randint(5, vocabulary, (PROMPTS, LENGTH), generator=generator)
    corrupt = clean.clone()
    corrupt[:, corrupted:] = torch.randint(5, vocabulary, (PROMPTS, LENGTH - corrupted), generator=generator)
    ids = torch.randint(5, vocabulary, (PROMPTS, 2), generator=generator)
    targets = Targets(ids[:, :1], ids[:, 1:])
    sweep = ours(model, clean, corrupt, over, targets)
    others = {} if options.no_peers else peers(hf, model, clean, corrupt, over, targets)
    batch = corrupt.repeat(RATE_ROWS // PROMPTS, 1)
    sweep()
    taken: dict[str, list[float]] = {}
    with torch.inference_mode():
        for _ in range(1 if options.quick else options.rounds):
            plain = timed(lambda: hf(input_ids=batch, logits_to_keep=1, use_cache=False), clock)
            rate = RATE_ROWS * forward_operations(model) / plain
            taken.setdefault("floor", []).append(floor_seconds(model, over, corrupted, rate))
            taken.setdefault("ours", []).append(timed(sweep, clock))
            for peer, (run, scale) in others.items():
                with torch.inference_mode(False), torch.no_grad():
                    taken.setdefault(peer, []).append(timed(run, clock) * scale)
    ratio = statistics.median(f / o for f, o in zip(taken["floor"], taken["ours"], strict=True))
    return {
        "model": name,
        "over": over,
        "corrupted": corrupted,
        "seconds": statistics.median(taken["ours"]),
        "floor": statistics.median(taken["floor"]),
        "of_floor": ratio,
        "times_ours": {
            peer: statistics.median(p / o for p, o in zip(taken[peer], taken["ours"], strict=True)) for peer in others
        },
    }


if __name__ == "__main__":
    main()
