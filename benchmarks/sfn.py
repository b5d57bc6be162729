"""How fast and in how much memory `ck.sfn` compares and merges checkpoints, beside reading and copying their files.

A pair of sharded checkpoints of a Llama's shapes and random weights is written into --folder, and removed at the end.
Ratios are of rates within a round, in one process, sides taking turns: 0.7 means 70 % as fast. `cold` drops the files
from the page cache before each side and sees with mincore(2) that they are gone; `warm` has them all there. Merges and
copies are waited for until they are on the disk. Memory is that of a process of its own for each job, beyond mapped
files (RssAnon, every two milliseconds). Prints tables, and one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from checkpoints import page_cache, plain
from checkpoints.resident import Watched, in_a_child, told, watched
from checkpoints.sharded import SHAPES, write_pair
from yardstick.clock import machine

import circuitkit as ck

GIGABYTE = 10**9
Job = Callable[[Path, Path, Path], Any]


def _delta(a: Path, b: Path, **more: Any) -> Any:
    settings = {"per_head": False, "histogram": None, "bimodality": False, "stable_rank": False, "progress": False}
    return ck.sfn.delta(a, b, **{"modules": "all", **settings, **more})


def _merge(a: Path, b: Path, out: Path) -> Any:
    return ck.sfn.merge(a, b, ["o_proj"], out, progress=False)


def _destroy(a: Path, out: Path) -> Any:
    return ck.sfn.destroy(a, ["o_proj"], how="reinit", out=out, progress=False)


JOBS: Mapping[str, Job] = {
    "delta": lambda a, b, out: _delta(a, b),
    "delta, heads": lambda a, b, out: _delta(a, b, per_head=True),
    "delta, histogram": lambda a, b, out: _delta(a, b, histogram="paper"),
    "delta, stable rank": lambda a, b, out: _delta(a, b, stable_rank=True),
    "delta, all of it": lambda a, b, out: _delta(a, b, per_head=True, histogram="code", stable_rank=True),
    "merge": _merge,
    "destroy": lambda a, b, out: _destroy(a, out),
    "tensor by tensor": lambda a, b, out: plain.norms_by_tensor(a, b),
    "both as dictionaries": lambda a, b, out: plain.norms_by_dicts(a, b),
    "both as models": lambda a, b, out: plain.norms_by_models(a, b),
    "copy": lambda a, b, out: plain.copied(a, out),
    "merge tensor by tensor": plain.merged_by_tensors,
    "merge of models": plain.merged_by_models,
}
OURS = tuple(JOBS)[:7]
WHAT = ["norms", "merge", "more", "memory", "peers"]
"""Delta beside reading and a plain loop, merge beside copying, delta's other measures, memory, and other ways' too."""


def seconds(job: Job, a: Path, b: Path, *, cold: bool) -> float:
    """The wall's seconds of one job, whose output is removed afterwards."""
    files = [*plain.shards(a), *plain.shards(b)]
    (page_cache.drop if cold else page_cache.warm)(files)
    out = a.parent / "out"
    began = time.perf_counter()
    kept = job(a, b, out)
    taken = time.perf_counter() - began
    del kept
    shutil.rmtree(out, ignore_errors=True)
    return taken


def compare(ours: str, other: str, how: Job, a: Path, b: Path, rounds: int, *, cold: bool) -> dict[str, Any]:
    """Take turns between a job of ours and another way to do as much, and give the ratios of their rates."""
    mine, theirs = [], []
    for turn in range(rounds):
        sides = [(JOBS[ours], mine), (how, theirs)]
        for job, taken in sides if turn % 2 else reversed(sides):
            taken.append(seconds(job, a, b, cold=cold))
    ratios = [other / own for own, other in zip(mine, theirs, strict=True)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    row = {"job": ours, "beside": other, "cold": cold, "seconds": median(mine), "other_seconds": median(theirs)}
    return row | {"ratio": median(ratios), "low": low, "high": high, "of_fastest": min(theirs) / min(mine)}


def check(a: Path, b: Path) -> float:
    """See that delta gives the norms and cosines of whole tensors in float64, and tell how far the plain loop is off.

    Of what lies in layer 0 and outside of layers. Raises SystemExit where delta does not.
    """
    frame, off = _delta(a, b, layers=[0], modules=plain.ROLES).frame, 0.0
    for row in frame.itertuples(index=False):
        one, other = (plain.weight(folder, f"{row.name}.weight") for folder in (a, b))
        rough, exact = plain.compared(one, other), plain.compared(one, other, torch.float64)
        for mine, by_loop, expected in zip((row.norm, row.cosine), rough, exact, strict=True):
            if abs(mine - expected) > 1e-9 * abs(expected):
                raise SystemExit(f"{row.name}: delta gives {mine}, and it is {expected}")
            off = max(off, abs(by_loop - expected) / abs(expected))
    return off


def rates(a: Path, b: Path, what: list[str], rounds: int) -> Iterator[dict[str, Any]]:
    """How delta and merge stand beside reading, the plain loop, and copying."""
    both = [*plain.shards(a), *plain.shards(b)]

    def reading(a: Path, b: Path, out: Path) -> None:
        page_cache.warm(both)

    if "norms" in what:
        yield compare("delta", "reading both files", reading, a, b, rounds, cold=True)
        yield compare("delta", "plain loop", JOBS["tensor by tensor"], a, b, rounds, cold=False)
    if "merge" in what:
        yield compare("merge", "copying the folder", JOBS["copy"], a, b, rounds, cold=True)
        yield compare("merge", "copying the folder", JOBS["copy"], a, b, rounds, cold=False)
    if "more" in what:
        for job in OURS:
            if job.startswith("delta,"):
                yield compare(job, "delta", JOBS["delta"], a, b, rounds, cold=False)


def memory(a: Path, b: Path, jobs: list[str]) -> Iterator[dict[str, Any]]:
    """Time and memory of jobs, each in its own process, files warm."""
    for job in jobs:
        page_cache.warm([*plain.shards(a), *plain.shards(b)])
        seen: Watched = in_a_child(__file__, ["--job", job, "--folder", str(a.parent)])
        shutil.rmtree(a.parent / "out", ignore_errors=True)
        yield {"job": job, "gigabytes": size(a) / GIGABYTE, **vars(seen), "added": seen.added}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in plain.shards(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where the pair is written (default: the system's temporary folder)"
    )
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of each checkpoint (default 2)")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--shape", choices=list(SHAPES), default="1b", help="whose widths (default 1b)")
    parser.add_argument("--rounds", type=int, default=5, help="of rates (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT, help="is measured (default: all of it)")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS), help="whose memory (default: all)")
    parser.add_argument("--quick", action="store_true", help="a pair of 20 MB and one round, to see that it runs")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.job:
        at = options.folder
        print(told(watched(lambda: JOBS[options.job](at / "a", at / "b", at / "out"))))
        return
    measured = measure(options)
    about = {"benchmark": "sfn", "quick": options.quick, "shape": options.shape, "dtype": options.dtype}
    about |= {"threads": options.threads, "machine": machine(torch.device("cpu")), "torch": torch.__version__}
    print(json.dumps(about | measured))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that is asked for, on pairs that are there only meanwhile."""
    nbytes, shape, rounds = int(options.gigabytes * GIGABYTE), options.shape, options.rounds
    if options.quick:
        nbytes, shape, rounds = 20_000_000, "small", 1
        options.jobs = ["delta", "merge", "both as models"]
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    found: dict[str, Any] = {}
    for times in (1, 2):
        if times == 2 and (options.quick or "memory" not in options.what):
            break
        _room(options.folder, (4 if times == 1 else 3) * times * nbytes)
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="sfn-benchmark-") as folder:
            a, b = write_pair(Path(folder), SHAPES[shape], times * nbytes, getattr(torch, options.dtype))
            print(f"{shape}, {options.dtype}, {size(a) / GIGABYTE:.2f} GB each in {len(plain.shards(a))} files")
            if times == 1:
                found["plain_loop_off"] = off = check(a, b)
                print(f"delta is right to 1e-9; the plain loop in float32 is off by up to {100 * off:.2g} %")
                found["rates"] = list(_printed_rates(rates(a, b, options.what, rounds), size(a)))
            jobs = list(OURS) if "memory" in options.what else []
            jobs += list(JOBS)[len(OURS) :] if "peers" in options.what and times == 1 else []
            if jobs := [job for job in jobs if job in options.jobs]:
                found.setdefault("memory", []).extend(_printed_memory(memory(a, b, jobs)))
    return found


def _room(folder: Path | None, wanted: int) -> None:
    where = folder or Path(tempfile.gettempdir())
    if (free := shutil.disk_usage(where).free) < wanted:
        raise SystemExit(f"{where} has {free / GIGABYTE:.1f} GB free, and {wanted / GIGABYTE:.1f} are wanted: --folder")


def _printed_rates(rows: Iterable[dict[str, Any]], nbytes: int) -> Iterator[dict[str, Any]]:
    print(f"\n{'':<20}{'beside':<22}{'':<6}{'s':>7}{'GB/s':>7}{'other s':>9}{'ratio':>7}  (quartiles)")
    for row in rows:
        moved = nbytes * (1 if row["job"] == "merge" else 2) / GIGABYTE / row["seconds"]
        told = f"{row['seconds']:>7.2f}{moved:>7.2f}{row['other_seconds']:>9.2f}{row['ratio']:>7.2f}"
        where = "cold" if row["cold"] else "warm"
        print(f"{row['job']:<20}{row['beside']:<22}{where:<6}{told}  ({row['low']:.2f}-{row['high']:.2f})", flush=True)
        yield row


def _printed_memory(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    print(f"\n{'in its own process':<24}{'s':>7}{'cpu s':>7}{'added MiB':>11}{'anonymous':>11}{'mapped':>8}{'peak':>7}")
    for row in rows:
        times = f"{row['seconds']:>7.2f}{row['cpu_seconds']:>7.2f}"
        memory = f"{row['added']:>11.0f}{row['anonymous_peak']:>11.0f}{row['mapped_peak']:>8.0f}{row['peak']:>7.0f}"
        print(f"{row['job']:<24}{times}{memory}", flush=True)
        yield row


if __name__ == "__main__":
    main()
