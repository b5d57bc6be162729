"""Train the embedded family `deductor-*` on PrOntoQA-OOD deductions, and write its model cards.

    python experiments/train_deductors.py train --size 130k --out FOLDER
    python experiments/train_deductors.py measure --out FOLDER

`train` makes the twins of one size: `-base`, which mostly answers directly, and `-reason`, the same weights
trained further, mostly on chains of thought. `measure` judges every model in the folder on questions absent from
training and writes `accuracy.json` and the model card into each.
"""

from __future__ import annotations

import csv
import functools
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Literal, cast

import cyclopts
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from circuitkit.model.embedded import word_tokenizer
from circuitkit.tasks import prontoqa

app = cyclopts.App(help=__doc__)

CONTEXT = 2048
TRAINING_SEED = 1_000_000  # evaluation seeds are below
EVALUATION_SEED = 7
EVALUATION_SIZE = 300


@dataclass(frozen=True)
class Size:
    """The shape of one size and how long each of its twins is trained."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    learning_rate: float
    base_steps: int
    reason_steps: int
    kept_steps: tuple[int, ...] = ()
    stopped: int | None = None  # the step of the reasoning stage to stop at, where its schedule is longer


SIZES = {
    "5k": Size(8, 2, 2, 2, 24, 6e-3, 800, 2000),
    "20k": Size(24, 2, 4, 4, 64, 5e-3, 800, 4000, stopped=2400),
    "60k": Size(40, 3, 4, 2, 80, 4e-3, 800, 3000),
    "130k": Size(64, 3, 4, 4, 112, 3e-3, 800, 8000, (200, 600, 1500, 4000)),
    "400k": Size(96, 4, 8, 4, 224, 2.5e-3, 400, 2600),
    "1m": Size(160, 4, 8, 2, 352, 2e-3, 500, 5500),
}

# Each stage's share of chains of thought; the rest answers "True or false:" at once.
PROOF_SHARE = {"base": 0.1, "reason": 0.85}
# Hops, exemplars and distractors lean to the short, which costs the least and is learnt from the fastest.
MIXTURE: dict[str, dict[str, int]] = {
    "rules": {
        "implication_elimination": 33,
        "conjunction_introduction": 17,
        "conjunction_elimination": 17,
        "disjunction_introduction": 17,
        "disjunction_elimination": 8,
        "proof_by_contradiction": 8,
    },
    "hops": {"1": 20, "2": 27, "3": 33, "4": 10, "5": 10},
    "exemplars": {"0": 92, "1": 4, "2": 2, "3": 2},
    "distractors": {"none": 80, "relevant": 10, "irrelevant": 10},
}
# A direct answer is two tokens and a proof forty: without a weight, a batch would hardly train the answers.
DIRECT_WEIGHT = 10.0
QUESTION_WEIGHT = 0.02


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the family's tokenizer."""
    return word_tokenizer(prontoqa.words(), CONTEXT)


@functools.cache
def evaluation_questions() -> dict[tuple[str, int], list[prontoqa.Example]]:
    """Return the held-out questions without exemplars or distractors, by rule and number of hops."""
    return {
        (rule, hops): prontoqa.generate(rule, hops=hops, shots=0, n=EVALUATION_SIZE, seed=EVALUATION_SEED)
        for rule in prontoqa.RULES
        for hops in ((1,) if rule in prontoqa.ONE_HOP_RULES else range(1, 6))
    }


@functools.cache
def direct_questions(distractors: prontoqa.Distractors = "none") -> dict[tuple[str, int], list[prontoqa.Example]]:
    """Return held-out questions that ask for an answer at once."""
    return {
        (rule, hops): prontoqa.generate(
            rule,
            hops=hops,
            shots=0,
            n=EVALUATION_SIZE,
            seed=EVALUATION_SEED,
            mode="direct",
            distractors=distractors,
        )
        for rule, hops in evaluation_questions()
    }


def training_examples(seed: int, proof_share: float) -> Iterator[prontoqa.Example]:
    """Draw training examples for ever, passing over every question of the evaluation."""
    random = Random(TRAINING_SEED + seed)
    held_out = {
        example.judged
        for questions in (evaluation_questions(), direct_questions(), direct_questions("irrelevant"))
        for examples in questions.values()
        for example in examples
    }
    while True:
        rule, hops, shots, distractors = (
            random.choices(list(table), list(table.values()))[0] for table in MIXTURE.values()
        )
        example = prontoqa.sample(
            random,
            rule,
            hops=1 if rule in prontoqa.ONE_HOP_RULES else int(hops),
            shots=int(shots),
            distractors=cast(prontoqa.Distractors, distractors),
            mode="proof" if random.random() < proof_share else "direct",
        )
        if example.judged not in held_out:
            yield example


Batch = tuple[Tensor, Tensor]  # tokens and loss weights, both [batch, position]


def batches(examples: Iterator[prontoqa.Example], size: int, seed: int) -> Iterator[Batch]:
    """Group examples of like length, so that little is padded, and give the groups in random order."""
    words, order = tokenizer(), Random(seed)
    end, pad = words.eos_token_id, words.pad_token_id
    while True:
        pool = [next(examples) for _ in range(size * 16)]
        prompts = words([example.prompt for example in pool])["input_ids"]
        answers = words([example.answer for example in pool])["input_ids"]
        rows = []
        for example, prompt, answer in zip(pool, prompts, answers, strict=True):
            weight = 1.0 if example.mode == "proof" else DIRECT_WEIGHT
            rows.append(([*prompt, *answer, end], [QUESTION_WEIGHT] * len(prompt) + [weight] * (len(answer) + 1)))
        rows.sort(key=lambda row: len(row[0]))
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        order.shuffle(groups)
        for group in groups:
            longest = max(len(tokens) for tokens, _ in group)
            tokens = torch.tensor([row + [pad] * (longest - len(row)) for row, _ in group])
            weights = torch.tensor([row + [0.0] * (longest - len(row)) for _, row in group])
            yield tokens, weights


def new_model(size: Size, seed: int) -> LlamaForCausalLM:
    """Return a model of this size with random weights."""
    words = tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        # With the customary 0.02 a model this narrow needs ten times as many steps before it copies at all.
        initializer_range=0.8 / size.width**0.5,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, folder: Path, record: dict[str, object], losses: list[tuple[int, float]]) -> None:
    """Write the model, its tokenizer, its loss curve and how it was trained."""
    model.save_pretrained(folder)
    # safetensors writes for its owner alone; a shipped file is everybody's to read.
    (folder / "model.safetensors").chmod(0o644)
    tokenizer().save_pretrained(folder)
    with (folder / "loss.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "loss"), *((step, f"{loss:.4f}") for step, loss in losses)])
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def fit(model: PreTrainedModel, source: Iterator[Batch], steps: int, peak: float) -> Iterator[float]:
    """Train with AdamW, a short warm-up and a cosine to zero, giving each step's plain loss of the answers' tokens."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.98),
    )
    model.train()
    for step in range(1, steps + 1):
        rate = peak * min(step / 100, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        tokens, weights = next(source)
        loss, watched = weighted_loss(model, tokens, weights)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        yield watched


def run_stage(
    model: LlamaForCausalLM, name: str, stage: str, size: Size, steps: int, seed: int, batch: int, out: Path
) -> None:
    """Train one stage, saving as it goes."""
    stage_seed = 2 * seed + (stage == "reason")
    source = batches(training_examples(stage_seed, PROOF_SHARE[stage]), batch, stage_seed)
    record: dict[str, object] = {
        "stage": stage,
        "seed": seed,
        "batch": batch,
        "learning_rate": size.learning_rate,
        "size": asdict(size),
        "proof_share": PROOF_SHARE[stage],
        "mixture": MIXTURE,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    losses: list[tuple[int, float]] = []
    running, seen, started = 0.0, 0, time.monotonic()
    last = min(steps, size.stopped or steps) if stage == "reason" else steps
    trained = fit(model, source, steps, size.learning_rate)
    for step, watched in enumerate(itertools.islice(trained, last), 1):
        running, seen = running + watched, seen + 1
        if step % 25 == 0 or step == last:
            losses.append((step, running / seen))
            running, seen = 0.0, 0
            print(f"{name}-{stage} {step}/{steps} {losses[-1][1]:.4f} {time.monotonic() - started:.0f}s", flush=True)
        if stage == "reason" and step in size.kept_steps:
            save(model, out / f"{name}-step{step}", {**record, "steps": step}, losses)
        if step % 100 == 0 or step == last:
            save(model, out / f"{name}-{stage}", {**record, "steps": step}, losses)


def weighted_loss(model: PreTrainedModel, tokens: Tensor, weights: Tensor) -> tuple[Tensor, float]:
    """Return the weighted cross-entropy of the next tokens, and the plain one of the answers' tokens."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    answers = weight >= 1
    return (each * weight).sum() / weight.sum(), each.detach()[answers].mean().item()


@app.command
def train(
    size: Literal["5k", "20k", "60k", "130k", "400k", "1m"],
    *,
    out: Path,
    seed: int = 0,
    batch: int = 16,
    stage: Literal["both", "base", "reason"] = "both",
    base_steps: int | None = None,
    reason_steps: int | None = None,
) -> None:
    """Train the twins of one size.

    Parameters
    ----------
    size
        The size, by its number of parameters.
    out
        Folder that receives one folder a model.
    seed
        Seed of the weights and of the training questions.
    batch
        Examples a step.
    stage
        What to train: the base, the reasoning twin of a base that is already in the folder, or one after the other.
    base_steps
        Steps of the base, where not the size's own.
    reason_steps
        Steps from the base to its reasoning twin, where not the size's own.
    """
    torch.set_num_threads(1)
    shape, name = SIZES[size], f"deductor-{size}"
    if stage in ("both", "base"):
        model = new_model(shape, seed)
        run_stage(model, name, "base", shape, base_steps or shape.base_steps, seed, batch, out)
    if stage in ("both", "reason"):
        model = LlamaForCausalLM.from_pretrained(out / f"{name}-base", dtype=torch.float32)
        run_stage(model, name, "reason", shape, reason_steps or shape.reason_steps, seed, batch, out)


if __name__ == "__main__":
    app()
