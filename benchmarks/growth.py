"""How a sweep's time grows: with layers, heads, positions, prompts and cells, on a small decoder with random weights.

One of them is varied at a time. A sweep's cells are layers x heads (`z`) or layers x positions (`resid_pre`), and each
costs what is above its layer and behind its column: so time should grow at most as layers and positions squared, and in
proportion to heads (`z`) and prompts. With the model as it is and more cells, time should lie on a line. Printed are
the slope of log time over log size, over all sizes and over the last two; the same slope of the operations of the
sweep's floor; and R² of a straight line through the times. `--out` plots it all. Prints a table, and one JSON object as
its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import linregress
from transformers import LlamaConfig, LlamaForCausalLM
from yardstick.clock import Clock, machine
from yardstick.floor import sweep_operations
from yardstick.shapes import Prompts, cells, places

import circuitkit as ck
from circuitkit.metrics import logit_difference
from circuitkit.run.executor import measure

SIZES = {
    "layers": (2, 4, 8, 16),
    "heads": (2, 4, 8, 16),
    "positions": (16, 32, 64, 128),
    "prompts": (2, 4, 8, 16),
    "cells": (32, 64, 128, 256),
}
OVER = {"z": "heads (z)", "resid_pre": "stream (resid_pre)"}


@dataclass(frozen=True)
class Size:
    """One sweep's size; `cells` is None where all of a sweep's are run."""

    layers: int = 4
    heads: int = 8
    positions: int = 32
    prompts: int = 4
    cells: int | None = None


def seconds(size: Size, over: str, width: int, clock: Clock, rounds: int) -> tuple[float, float, int]:
    """The fastest of some rounds of one sweep, the operations of its floor, and its cells."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=500,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=width // 8,
        max_position_embeddings=max(SIZES["positions"]),
    )
    model = ck.Model(LlamaForCausalLM(config).eval().requires_grad_(False))
    prompts = Prompts.draw(model, size.prompts, 0, size.positions)
    at = places(model, over, size.positions)
    if size.cells is not None:
        at = _spread(at, size.cells)
    run = cells(model, prompts, over, at)
    tokens = model.tokens(prompts.corrupt)

    def sweep() -> None:
        measure(model, tokens, prompts.targets, logit_difference, run, progress=False)

    sweep()
    taken = min(clock.seconds(sweep) for _ in range(rounds))
    return taken, sweep_operations(model, over, at, size.prompts, 0, size.positions), len(at)


def _spread(at: list[tuple[int, int]], n: int) -> list[tuple[int, int]]:
    """Some of the cells, or some of them again, from all layers alike."""
    return [at[number * len(at) // n] for number in range(n)]


def line(name: str, over: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """How one sweep's time grows with one size."""
    x, y, work = (np.array([point[key] for point in points]) for key in ("size", "seconds", "operations"))
    fit = linregress(x, y)
    return {
        "varied": name,
        "over": over,
        "points": points,
        "exponent": float(linregress(np.log(x), np.log(y)).slope),
        "last_exponent": float(np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2])),
        "work_exponent": float(linregress(np.log(x), np.log(work)).slope),
        "r_squared": float(fit.rvalue**2),
    }


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """A panel a size, time against it, both in logarithms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(SIZES), 3.6), layout="constrained")
    panels = figure.subplots(1, len(SIZES), sharey=True)
    for panel, name in zip(panels, SIZES, strict=True):
        for each, marker in zip((each for each in lines if each["varied"] == name), "os", strict=False):
            x, y = ([point[key] for point in each["points"]] for key in ("size", "seconds"))
            panel.loglog(x, y, marker=marker, label=f"{OVER[each['over']]}: slope {each['exponent']:.2f}")
        panel.set_xticks(x, [str(size) for size in x])
        panel.minorticks_off()
        panel.set_xlabel(f"{name} (number)")
        panel.legend(fontsize=7)
    panels[0].set_ylabel("time of the whole sweep (s)")
    figure.suptitle("How a patching sweep's time grows, one size varied at a time")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a PNG to plot to")
    parser.add_argument("--rounds", type=int, default=3, help="sweeps of each size, of which the fastest counts (3)")
    parser.add_argument("--width", type=int, default=128, help="the stream's width (default 128)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--cpu-clock", action="store_true", help="processor time instead of the clock (busy machines)")
    parser.add_argument("--quick", action="store_true", help="two small sizes each, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = Clock(torch.device("cpu"), options.cpu_clock)
    rounds, width = (1, 32) if options.quick else (options.rounds, options.width)
    lines = []
    print(f"{'varied':<11}{'sweep':<20}{'times (s)':<34}{'slope':>7}{'last':>7}{'floor':>7}{'R² of line':>12}")
    for name, sizes in SIZES.items():
        for over in OVER:
            points = []
            for size in sizes[:2] if options.quick else sizes:
                taken, operations, n = seconds(replace(Size(), **{name: size}), over, width, clock, rounds)
                points.append({"size": size, "cells": n, "seconds": taken, "operations": operations})
            told = line(name, over, points)
            lines.append(told)
            times = " ".join(f"{point['seconds']:.3f}" for point in points)
            print(
                f"{name:<11}{over:<20}{times:<34}{told['exponent']:>7.2f}{told['last_exponent']:>7.2f}"
                f"{told['work_exponent']:>7.2f}{told['r_squared']:>12.4f}",
                flush=True,
            )
    if options.out is not None:
        plot(lines, options.out)
    print(
        json.dumps(
            {
                "benchmark": "growth",
                "quick": options.quick,
                "width": width,
                "threads": options.threads,
                "clock": clock.name,
                "machine": machine(clock.device),
                "torch": torch.__version__,
                "lines": lines,
            }
        )
    )


if __name__ == "__main__":
    main()
