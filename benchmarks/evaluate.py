"""How many tokens a second `circuitkit.evaluate` writes, beside a plain `generate` loop as a user would write it.

The plain loop takes the prompts in the order of the task, 16 at a time, padded on the left, ends responses at the same
tokens, and decodes each batch's texts. Both write the same responses, which is checked. `intervened` scales one head by
1 throughout, so that it writes the same too, and its ratio is to evaluate without. Prints a table, and one JSON object
as its last line; the rows of `attention_scores.py` follow where that script is there.
"""

import argparse
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from yardstick.clock import Clock, machine

import circuitkit as ck
from circuitkit.tasks import Item, Judgement, Task, prontoqa

BATCH = 16


@dataclass(frozen=True)
class Case:
    """A model, and a task of prompts of mixed length."""

    name: str
    model: ck.Model
    task: Task


def cases(names: list[str], quick: bool, layers: int) -> Iterator[Case]:
    """Of each model, prompts of mixed length, and prompts behind the same exemplars, as tasks are asked."""
    for name in names:
        if name.startswith("deductor"):
            model = ck.load(name)
            tasks = deductions(quick), same_exemplars(quick)
        else:
            model = of_random_weights(quick, layers)
            tasks = words(quick), words(quick, exemplars=30 if quick else 200)
        for kind, task in zip(("mixed", "few-shot"), tasks, strict=True):
            yield Case(f"{name}, {kind}", model, task)


def deductions(quick: bool) -> Task:
    """Deductions of all rules and 1 to 5 hops behind 0 to 3 exemplars, in an order of no length."""
    kinds = [(rule, hops, shots) for rule in prontoqa.RULES for hops in (1, 2, 3, 5) for shots in (0, 1, 2, 3)]
    kinds = [(rule, hops, shots) for rule, hops, shots in kinds if hops == 1 or rule not in prontoqa.ONE_HOP_RULES]
    tasks = [prontoqa.task(rule, hops=hops, shots=shots, n=1, seed=0) for rule, hops, shots in kinds]
    items = [
        replace(item, key=f"{at} {item.key}", question=task.prompt(item), exemplars=())
        for at, task in enumerate(tasks)
        for item in task.items
    ]
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    shuffled = tuple(items[at] for at in order)
    return replace(
        tasks[0], name="deductions", items=shuffled[: 16 if quick else 48], shots=0, stop=(), max_new_tokens=160
    )


def same_exemplars(quick: bool) -> Task:
    """Deductions of one rule and mixed hops behind the same eight exemplars."""
    tasks = [
        prontoqa.task("implication_elimination", hops=hops, shots=8, n=2 if quick else 8, seed=0)
        for hops in (1, 2, 3, 5)
    ]
    items = [
        replace(item, key=f"{at} {item.key}", exemplars=()) for at, task in enumerate(tasks) for item in task.items
    ]
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(0)).tolist()
    return replace(
        tasks[1],
        name="few-shot deductions",
        items=tuple(items[at] for at in order),
        exemplars=tasks[1].items[0].exemplars,
        stop=(),
        max_new_tokens=160,
    )


def of_random_weights(quick: bool, layers: int) -> ck.Model:
    """GPT-2 small's shape and full vocabulary in so many layers, ending a response at one token in 16.

    So few responses reach the most tokens that they may have, as in real tasks, where this is generous.
    """
    torch.manual_seed(0)
    config = GPT2Config(**({"n_layer": 2, "n_embd": 96} if quick else {"n_layer": layers}))
    hf = GPT2LMHeadModel(config).eval().requires_grad_(False)
    # Otherwise a random model says one word for ever.
    hf.transformer.wpe.weight.normal_(0, 0.5)
    hf.generation_config.eos_token_id = list(range(0, config.vocab_size, 16))
    hf.generation_config.pad_token_id = config.vocab_size - 1
    vocabulary = {f"w{at}": at for at in range(config.vocab_size)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    last = f"w{config.vocab_size - 1}"
    return ck.Model(hf, PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=last, padding_side="left"))


def words(quick: bool, exemplars: int = 0) -> Task:
    """Random words, from a few to many; with exemplars, up to 60 words behind so many that all prompts share."""
    generator = torch.Generator().manual_seed(0)

    def drawn(length: int) -> str:
        return " ".join(f"w{word}" for word in torch.randint(0, 50_000, (length,), generator=generator).tolist())

    longest = 40 if quick else 60 if exemplars else 160
    lengths = torch.randint(8, longest, (8 if quick else 32,), generator=generator).tolist()
    items = tuple(Item(str(at), drawn(length), "w0") for at, length in enumerate(lengths))
    judges = {"any": lambda item, said: Judgement(bool(said), said or None)}
    shown = (drawn(exemplars) + " ",) if exemplars else ()
    return Task("random words", items, judges, shown, len(shown), max_new_tokens=16 if quick else 48)


def plain(model: ck.Model, task: Task) -> list[str]:
    """The responses as a user would write them down."""
    found = []
    prompts = [task.prompt(item) for item in task.items]
    for at in range(0, len(prompts), BATCH):
        batch = model.tokenizer(prompts[at : at + BATCH], return_tensors="pt", padding=True).to(model.device)
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            ids = model.hf.generate(**batch, max_new_tokens=task.max_new_tokens, do_sample=False)
        found += model.tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return found


def measure(case: Case, clock: Clock, rounds: int) -> dict[str, Any]:
    """Seconds of each way in turns, the fastest of its rounds, and the median of the rounds' ratios."""
    # Its own value, so that both write the same.
    head = [ck.scale("z[layer=0, head=0]", 1.0)]
    kept: dict[str, Any] = {}

    def run(way: str, task: Task = case.task) -> None:
        if way == "plain":
            kept[way] = plain(case.model, task)
        else:
            kept[way] = ck.evaluate(case.model, task, head if way == "intervened" else (), progress=False)

    for way in ("plain", "evaluate", "intervened"):
        run(way, case.task.first(2))
    taken = [{way: clock.seconds(lambda way=way: run(way)) for way in kept} for _ in range(rounds)]
    responses = kept["evaluate"].responses
    same = [response.text.strip() for response in responses] == [text.strip() for text in kept["plain"]]
    tokens = {way: sum(response.n_tokens for response in kept[way].responses) for way in ("evaluate", "intervened")}
    tokens["plain"] = tokens["evaluate"]
    rates = {way: tokens[way] / min(each[way] for each in taken) for way in kept}
    ratios = sorted(each["plain"] / each["evaluate"] for each in taken)
    intervened = sorted(
        tokens["intervened"] / each["intervened"] / (tokens["evaluate"] / each["evaluate"]) for each in taken
    )
    return {
        "prompts": len(case.task.items),
        "new tokens": tokens["evaluate"],
        "truncated": kept["evaluate"].truncated.value,
        "written": kept["evaluate"].provenance["written"],
        "same": same,
        "plain": rates["plain"],
        "evaluate": rates["evaluate"],
        "intervened": rates["intervened"],
        "times plain": ratios[len(ratios) // 2],
        "intervened of evaluate": intervened[len(intervened) // 2],
    }


def attention_rows(quick: bool, rounds: int) -> Any:
    """What `attention_scores.py` measures, where it is there."""
    path = Path(__file__).with_name("attention_scores.py")
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("attention_scores", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.rows(quick, rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few short prompts, to see that it runs")
    parser.add_argument("--model", nargs="+", default=["deductor-1m", "gpt2-small"], help="deductor-* or gpt2-small")
    parser.add_argument("--layers", type=int, default=2, help="of gpt2-small's shape; its own 12 take an hour")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor (default: torch's own)")
    parser.add_argument("--cpu-clock", action="store_true", help="processor time, which other work disturbs less")
    parser.add_argument("--no-attention", action="store_true", help="leave the rows of attention_scores.py out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = Clock(device, options.cpu_clock)
    told: dict[str, Any] = {
        "benchmark": "evaluate", "quick": options.quick, "machine": machine(device), "clock": clock.name,
        "threads": torch.get_num_threads(), "cases": {},
    }  # fmt: skip
    print(f"{'case':<22} {'prompts':>7} {'tokens':>7} {'plain':>8} {'evaluate':>9} {'times':>6} {'one head':>9}  same")
    for case in cases(options.model, options.quick, options.layers):
        case.model.hf.to(device)
        found = told["cases"][case.name] = measure(case, clock, 1 if options.quick else options.rounds)
        print(
            f"{case.name:<22} {found['prompts']:>7} {found['new tokens']:>7} {found['plain']:>8.0f} "
            f"{found['evaluate']:>9.0f} {found['times plain']:>6.2f} {found['intervened of evaluate']:>9.2f}  "
            f"{found['same']}",
            flush=True,
        )
    if not options.no_attention and (rows := attention_rows(options.quick, options.rounds)) is not None:
        told["attention scores"] = rows
    print(json.dumps(told))


if __name__ == "__main__":
    main()
