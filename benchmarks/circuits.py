"""What edge attribution costs, in units of one forward and one backward pass of the same batch.

The unit is as cheap as one can make it: weights ask for no gradient, it goes back to what enters the first layer alone,
and only the last token's logits are computed. EAP-IG of m steps cannot take less than m units. `of floor` is the time
over that, `memory` the peak over the unit's, both beyond the weights. Sides take turns within a round, and ratios are
taken within it. TransformerLens 4.3 has plain EAP alone, a pair at a time, and not for grouped-query models: its time
is that of one pair, its units those of all pairs. Prints a table, and one JSON object as its last line.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import json
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from peers.by_transformer_lens import edge_scores_by
from yardstick.clock import Clock, machine
from yardstick.peak import added_mib
from yardstick.shapes import Prompts, models

import circuitkit as ck

STEPS = 5
TIME, MEMORY, GIGABYTES = 1.5, 1.5, 8
SHAPES = {"gpt2-small": (8, 32), "qwen2.5-0.5b": (1, 512)}
"""Prompts and tokens; the first corrupted token is an eighth of the way."""

Way = Callable[[], Any]


def pairs_of(prompts: Prompts) -> ck.Pairs:
    return ck.Pairs(prompts.clean, prompts.corrupt, prompts.targets.answer, prompts.targets.distractor)


def unit(model: ck.Model, prompts: Prompts) -> Way:
    """One forward and one backward pass, back to what enters the first layer."""
    embed = model.hf.get_input_embeddings()

    def run() -> None:
        entering = embed(prompts.clean).detach().requires_grad_()
        logits = model.hf(inputs_embeds=entering, logits_to_keep=1, use_cache=False).logits[:, -1]
        value = ck.metrics.logit_difference(logits, prompts.targets)
        torch.autograd.grad(value.sum(), entering)

    return run


def ours(model: ck.Model, prompts: Prompts, method: str, **more: Any) -> Way:
    pairs = pairs_of(prompts)
    settings = {"method": method, "steps": STEPS, "batch_size": len(prompts), "progress": False, **more}
    return lambda: ck.circuits.attribute(model, pairs, **settings)


def ways(model: ck.Model, prompts: Prompts, name: str, peers: bool) -> dict[str, Way]:
    """What is timed, by name; those of the other tool take one pair."""
    found = {
        "unit": unit(model, prompts),
        "eap-ig": ours(model, prompts, "eap-ig"),
        "eap": ours(model, prompts, "eap"),
        "eap-ig, checkpointing": ours(model, prompts, "eap-ig", checkpointing=True),
    }
    if peers and name == "gpt2-small":
        of_pair = edge_scores_by(model.hf, prompts)
        found["TransformerLens eap, a pair"] = lambda: of_pair(0)
    return found


def agree(model: ck.Model, prompts: Prompts) -> float:
    """The largest difference from TransformerLens's scores of the first pair, of the largest score."""
    graph = ck.circuits.attribute(model, pairs_of(prompts), method="eap", progress=False)
    theirs = torch.zeros_like(graph.scores)
    kinds = {"q_input": "<q>", "k_input": "<k>", "v_input": "<v>"}
    for nodes, score in edge_scores_by(model.hf, prompts)(0).items():
        writer, reader = (
            {"embed": "input", "logits": "logits"}.get(node.kind)
            or (f"m{node.layer}" if node.head is None else f"a{node.layer}.h{node.head}{kinds.get(node.kind, '')}")
            for node in nodes
        )
        theirs[graph.layout.source(writer), graph.layout.destination(reader)] -= score
    assert graph.per_example is not None
    worst = float((graph.per_example[0] - theirs).abs().max() / theirs.abs().max())
    if not worst < 1e-3:
        raise SystemExit(f"TransformerLens and circuitkit disagree by {worst:.1e}: there is nothing to compare")
    return worst


def measure(each: dict[str, Way], clock: Clock, rounds: int, n: int) -> dict[str, dict[str, float | None]]:
    """Each way's seconds, ratios to the unit of the same round, and memory at its peak."""
    taken: dict[str, list[float]] = {name: [] for name in each}
    names = list(each)
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            taken[name].append(clock.seconds(each[name]))
    rows: dict[str, dict[str, float | None]] = {}
    for name, seconds in taken.items():
        ratios = [one / other for one, other in zip(seconds, taken["unit"], strict=True)]
        steps = STEPS if name.startswith("eap-ig") else 1
        share = n if name.startswith("TransformerLens") else 1
        rows[name] = {
            "seconds": median(seconds),
            "units": median(ratios) * share,
            "of_floor": median(ratios) * share / steps,
            "mib": added_mib(each[name], clock.device),
        }
    least = rows["unit"]["mib"]
    for row in rows.values():
        row["memory"] = row["mib"] / least if row["mib"] is not None and least else None
    return rows


def show(title: str, rows: dict[str, dict[str, float | None]]) -> None:
    print(f"\n{title}\n{'':<30}{'seconds':>10}{'units':>9}{'of floor':>10}{'MiB':>9}{'memory':>9}")

    def told(value: float | None, width: int, digits: int) -> str:
        return f"{'':>{width}}" if value is None else f"{value:>{width}.{digits}f}"

    for name, row in rows.items():
        print(
            f"{name:<30}{told(row['seconds'], 10, 3)}{told(row['units'], 9, 2)}{told(row['of_floor'], 10, 2)}"
            f"{told(row['mib'], 9, 0)}{told(row['memory'], 9, 2)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(SHAPES), nargs="+", default=list(SHAPES), help="shapes to try")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--cpu-clock", action="store_true", help="processor time, which other work disturbs less")
    parser.add_argument("--device", default="cpu", help="where (default cpu)")
    parser.add_argument("--dtype", default="float32", help="of the weights (default float32)")
    parser.add_argument("--no-peers", action="store_true", help="leave TransformerLens out, which takes the longest")
    parser.add_argument("--quick", action="store_true", help="small models, one round, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = Clock(device, options.cpu_clock)
    results: dict[str, Any] = {}
    for name, hf in models(options.model, options.quick, device, getattr(torch, options.dtype)):
        n, length = (2, 8) if options.quick else SHAPES[name]
        model = ck.Model(hf, None, name=name)
        prompts = Prompts.draw(model, n, length // 8, length)
        peers = not options.no_peers
        result: dict[str, Any] = {"weights_mib": sum(p.numel() * p.element_size() for p in hf.parameters()) / 2**20}
        if peers and name == "gpt2-small":
            result["difference"] = agree(model, prompts)
        each = ways(model, prompts, name, peers)
        for way in each.values():
            way()
        rows = measure(each, clock, 1 if options.quick else options.rounds, n)
        show(f"{name}, {n} x {length} tokens, {STEPS} steps", rows)
        result["ways"] = rows
        integrated = rows["eap-ig"]
        if integrated["mib"] is not None:
            result["gigabytes"] = (result["weights_mib"] + integrated["mib"]) * 2**20 / 1e9
        results[name] = result
    print(json.dumps(_told(results, options, clock)))


def _told(results: dict[str, Any], options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    def met(name: str, result: dict[str, Any]) -> bool:
        row = result["ways"]["eap-ig"]
        if name == "gpt2-small":
            return bool(row["of_floor"] <= TIME and (row["memory"] is None or row["memory"] <= MEMORY))
        return bool(result.get("gigabytes", 0.0) <= GIGABYTES)

    return {
        "benchmark": "circuits",
        "quick": options.quick,
        "clock": clock.name,
        "threads": options.threads,
        "machine": machine(clock.device),
        "torch": torch.__version__,
        "targets": {"of_floor": TIME, "memory": MEMORY, "gigabytes": GIGABYTES},
        "met": {name: met(name, result) for name, result in results.items()},
        "shapes": results,
    }


if __name__ == "__main__":
    main()
