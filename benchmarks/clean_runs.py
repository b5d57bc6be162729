"""What a clean-run cache costs and saves: a sweep's source run without it, run and kept, and read again.

On random weights of GPT-2 small's size with its full vocabulary. `hash` is the first look of a process at a model,
which reads every byte once; `check` is every look after it. Prints a table, and one JSON object as its last line.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

import circuitkit as ck
from circuitkit.model.fingerprint import fingerprint
from circuitkit.run import CleanRuns

VOCABULARY = 50_257
SHAPES = ((8, 16), (4, 128))
CAPTURES = {"z": ["z"], "resid_pre": ["resid_pre"]}


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median of some rounds."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(hf: GPT2LMHeadModel, shape: tuple[int, int], capture: list[str], rounds: int) -> dict[str, float]:
    """Seconds of a source run in each way, with the logits of the last position as studies ask for them."""
    ids = torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        plain, kept = ck.Model(hf, None), ck.Model(hf, None, clean_runs=Path(folder))
        runs = kept.clean_runs
        assert isinstance(runs, CleanRuns)

        def run(model: ck.Model) -> ck.Run:
            return model.run(ids, capture=capture, logits_at=-1)

        def anew() -> None:
            runs.clear()
            run(kept)

        expected, _ = run(plain), run(kept)
        found = run(kept)
        same = torch.equal(found.logits, expected.logits) and all(
            torch.equal(found.cache[site], expected.cache[site]) for site in expected.cache
        )
        if not same or runs.hits != 1:
            raise SystemExit("what was read is not what was run: there is nothing to compare")
        return {
            "plain": seconds(lambda: run(plain), rounds),
            "kept": seconds(anew, rounds),
            "read": seconds(lambda: run(kept), rounds),
            "mib": runs.size / 2**20,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="times that each is done (default 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--quick", action="store_true", help="a small model and few rounds, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rounds = 2 if options.quick else options.rounds
    size = {"n_layer": 2, "n_embd": 128, "n_head": 4} if options.quick else {}
    hf = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **size)).eval().requires_grad_(False)
    gigabytes = sum(parameter.nbytes for parameter in hf.parameters()) / 1e9
    looks = {"hash": seconds(lambda: fingerprint(ck.Model(hf, None)), rounds)}
    model = ck.Model(hf, None)
    fingerprint(model)
    looks["check"] = seconds(lambda: fingerprint(model), rounds)
    for name, taken in looks.items():
        print(f"{name:<6} {taken:.3f} s for {gigabytes:.2f} GB of weights, {gigabytes / taken:.1f} GB/s")
    print(f"\n{'':<20}{'run':>9}{'kept':>9}{'read':>9}{'run/read':>10}{'MiB':>9}")
    results = {}
    for shape in SHAPES:
        for name, capture in CAPTURES.items():
            row = measure(hf, shape, capture, rounds)
            results[f"{name} {shape[0]}x{shape[1]}"] = row
            told = "".join(f"{row[way]:>9.3f}" for way in ("plain", "kept", "read"))
            print(f"{name:<11}{shape[0]:>3} x{shape[1]:>4}{told}{row['plain'] / row['read']:>10.1f}{row['mib']:>9.1f}")
    about = {"benchmark": "clean_runs", "quick": options.quick, "rounds": rounds, "threads": options.threads}
    about |= {"machine": platform.machine(), "torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**about, "weights_gb": gigabytes, **looks, "runs": results}))


if __name__ == "__main__":
    main()
