"""How fast a patching sweep is, and how much memory it takes: beside its floor, and beside the other tools.

Each row is a sweep over every cell of a model: the residual stream (layer x position) or every head (`z`, all
positions), with the first corrupted token at some position. Its floor is the work that no exact method can avoid, at
the rate of a plain forward at its best batch size; `own batch` is the same at the rate of a plain forward of the
sweep's own prompts. The other tools run a stratified sample of the cells on the same weights and prompts, in turn with
ours, once their values were seen to be the same; nnsight and pyvene run as many cells a batch as makes a cell fastest.
A tool that fails is told of with its error. Prints a table, and one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import logging
import statistics
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from peers import ONE_AT_A_TIME, WAYS
from peers.sampled import Sampled
from yardstick import peak
from yardstick.clock import Clock, machine
from yardstick.floor import Rate, sweep_operations
from yardstick.shapes import LENGTH, NAMES, Prompts, cells, models, places, sibling

import circuitkit as ck
from circuitkit.metrics import logit_difference
from circuitkit.run.executor import measure

CORRUPTED = (0, 8, 16)
BATCHES = (1, 4, 16, LENGTH)
SAMPLE = 2
AGREES = {torch.float32: 1e-3, torch.bfloat16: 0.5}


@dataclass
class Sweep:
    """One row: a sweep, its floor, and the tools that take turns at it."""

    model: ck.Model
    over: str
    prompts: Prompts
    rate: Rate
    clock: Clock
    errors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.at = places(self.model, self.over)
        self.cells = cells(self.model, self.prompts, self.over, self.at)
        self.tokens = self.model.tokens(self.prompts.corrupt)
        self.operations = sweep_operations(self.model, self.over, self.at, len(self.prompts), self.prompts.corrupted)
        self.taken: dict[str, list[float]] = {}
        self.peaks: dict[str, float | None] = {}

    def start(self) -> None:
        """Our values, and what a plain forward and our sweep add to memory at their peaks."""
        device, ids = self.clock.device, self.prompts.corrupt
        # Shortcuts are tried at a model's first use.
        measure(self.model, self.tokens, self.prompts.targets, logit_difference, self.cells[-1:], progress=False)
        with torch.inference_mode():
            plain = peak.added_mib(lambda: self.rate.hf(input_ids=ids, use_cache=False), device)
        self.peaks = {"plain forward": plain, "circuitkit": peak.added_mib(self._remember, device)}

    def _remember(self) -> None:
        self.values = dict(zip(self.at, self.ours(), strict=True))

    def ours(self) -> torch.Tensor:
        """The whole sweep by circuitkit."""
        return measure(self.model, self.tokens, self.prompts.targets, logit_difference, self.cells, progress=False)

    def tools(self, hf: Any, names: list[str], sizes: dict[str, int]) -> dict[str, Sampled]:
        """The other tools that run these cells and give the same values; `sizes` is what suited them before."""
        ats = [at for layer, at in self.at if layer == 0]
        found = {}
        for name in names:
            candidates = (SAMPLE,) if name in ONE_AT_A_TIME else ((sizes[name],) if name in sizes else BATCHES)
            try:
                run = WAYS[name](sibling(hf), self.prompts, self.over)
                tool = Sampled.of(run, self.model.n_layers, ats, self.clock, candidates)
                layer, chosen = tool.chosen(0)
                wanted = torch.cat([self.values[layer, at] for at in chosen])
                apart = float((tool.batch(0).float().cpu() - wanted).abs().max() / wanted.abs().max())
                if not apart <= AGREES[self.model.hf.dtype]:
                    raise ValueError(f"its values are {apart:.1e} from ours")
            except Exception as error:  # a peer's code may fail in any way, and the table says in which
                self._fail(name, error)
                continue
            found[name], sizes[name] = tool, tool.size
            self.peaks[name] = peak.added_mib(lambda tool=tool: tool.batch(0), self.clock.device)
        return found

    def turn(self, number: int, tools: dict[str, Sampled]) -> None:
        """Let the plain forward, ours and every tool take a turn."""
        with torch.inference_mode():
            best, own = self.rate.best(), self.rate.own()
            self._note("circuitkit", self.clock.seconds(self.ours))
            # What else the machine does can only slow a forward down, so the faster of two says more.
            self._note("floor", self.operations / max(best, self.rate.best()))
            self._note("own", self.operations / max(own, self.rate.own()))
        for name, tool in list(tools.items()):
            try:
                with torch.no_grad():
                    self._note(name, tool.seconds_a_cell(self.clock, number) * len(self.at))
            except Exception as error:  # as above: memory may run out in a later layer
                self._fail(name, error)
                del tools[name]

    def _fail(self, name: str, error: Exception) -> None:
        self.errors[name] = " ".join(f"{type(error).__name__}: {error}".split())[:160]

    def _note(self, name: str, seconds: float) -> None:
        self.taken.setdefault(name, []).append(seconds)

    def ratio(self, over: str, under: str) -> float:
        """The median of two times' ratios, each within a round."""
        return statistics.median(a / b for a, b in zip(self.taken[over], self.taken[under], strict=True))

    def figures(self, name: str, tools: dict[str, Sampled]) -> dict[str, Any]:
        """What the row says."""
        return {
            "model": name,
            "over": self.over,
            "prompts": len(self.prompts),
            "corrupted": self.prompts.corrupted,
            "cells": len(self.at),
            "seconds": statistics.median(self.taken["circuitkit"]),
            "floor": statistics.median(self.taken["floor"]),
            "of_floor": self.ratio("floor", "circuitkit"),
            "of_own_batch": self.ratio("own", "circuitkit"),
            "rate_gflops": self.operations / statistics.median(self.taken["floor"]) / 1e9,
            "rate_rows": self.rate.rows,
            "times_ours": {tool: self.ratio(tool, "circuitkit") for tool in tools},
            "peer_seconds": {tool: statistics.median(self.taken[tool]) for tool in tools},
            "cells_a_batch": {tool: 1 if tool in ONE_AT_A_TIME else sampled.size for tool, sampled in tools.items()},
            "peak_mib": self.peaks,
            "errors": self.errors,
        }


HEADINGS = f"{'seconds':>9}{'x ours':>8}{'of floor':>10}{'own batch':>11}{'peak MiB':>10}"


def show(row: dict[str, Any]) -> None:
    """Print one sweep's rows of the table: its floor, ours, and a line a tool."""
    sweep = f"{row['model']} {row['over']} from {row['corrupted']}, {row['prompts']} prompts"
    print(f"\n{sweep + ', ' + str(row['cells']) + ' cells':<58}{HEADINGS}")

    def line(name: str, seconds: float, times: str, of_floor: str, own: str, key: str) -> None:
        mib = row["peak_mib"].get(key)
        told = "" if mib is None else f"{mib:.0f}"
        print(f"  {name:<56}{seconds:>9.3f}{times:>8}{of_floor:>10}{own:>11}{told:>10}", flush=True)

    rate = f"floor, at {row['rate_gflops']:.0f} GFLOP/s of {row['rate_rows']} rows; peak: plain forward"
    line(rate, row["floor"], "", "1.00", "", "plain forward")
    line("circuitkit", row["seconds"], "1.00", f"{row['of_floor']:.2f}", f"{row['of_own_batch']:.2f}", "circuitkit")
    for tool, seconds in row["peer_seconds"].items():
        batch = f"{tool}, {row['cells_a_batch'][tool]} cells a batch"
        line(batch, seconds, f"{row['times_ours'][tool]:.2f}", f"{row['floor'] / seconds:.2f}", "", tool)
    for tool, error in row["errors"].items():
        print(f"  {tool} failed: {error}", flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each tool (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    parser.add_argument("--model", nargs="+", choices=NAMES, default=list(NAMES), help="some models only")
    parser.add_argument("--over", nargs="+", choices=["z", "resid_pre"], default=["z", "resid_pre"], help="some sweeps")
    parser.add_argument(
        "--corrupted", nargs="+", type=int, default=list(CORRUPTED), help="first corrupted positions (0 8 16)"
    )
    parser.add_argument("--prompts", nargs="+", type=int, default=[4], help="prompts of a sweep (default 4)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--cpu-clock", action="store_true", help="processor time instead of the clock (busy machines)")
    parser.add_argument("--peers", nargs="*", choices=list(WAYS), default=list(WAYS), help="some other tools, or none")
    parser.add_argument("--quick", action="store_true", help="small models and one round, to see that it runs")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    # Tools warn of what they will drop some day; what fails is in the table.
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.disable_progress_bar()
    device = torch.device(options.device)
    clock = Clock(device, options.cpu_clock)
    rows: list[dict[str, Any]] = []
    corrupted = options.corrupted[1:2] if options.quick else options.corrupted
    for name, hf in models(options.model, options.quick, device, getattr(torch, options.dtype)):
        model = ck.Model(hf)
        for n in options.prompts:
            with torch.inference_mode():
                rate = Rate.found(model, hf, clock, Prompts.draw(model, n, 0))
            for over in options.over:
                sizes: dict[str, int] = {}
                for first in corrupted or options.corrupted:
                    sweep = Sweep(model, over, Prompts.draw(model, n, first), rate, clock)
                    sweep.start()
                    with torch.no_grad():
                        tools = sweep.tools(hf, options.peers, sizes)
                    for number in range(1 if options.quick else options.rounds):
                        sweep.turn(number, tools)
                    rows.append(sweep.figures(name, tools))
                    show(rows[-1])
    told = {
        "benchmark": "sweeps",
        "quick": options.quick,
        "threads": options.threads,
        "clock": clock.name,
        "device": str(device),
        "dtype": options.dtype,
        "machine": machine(device),
        "torch": torch.__version__,
        "rows": rows,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
