"""How fast proofs are judged, and how the time grows with their length, in processor time on one core.

Answers are the gold proofs of drawn questions of every rule, hops and width, three in four of them spoilt as models
spoil them: a step dropped, a premise of another concept, sentences said again and again up to what 256 tokens hold.
With CIRCUITKIT_DATA set, the answers that eleven real models gave to the published prompts are judged too. Prints a
table, and one JSON object as its last line.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import circuitkit as ck
from circuitkit.tasks.prontoqa.parsing import sentences

prontoqa = ck.tasks.prontoqa
Answers = list[tuple[str, str]]
LONGEST = 40


def spoilt(random: Random, steps: list[str], question: str) -> list[str]:
    """A proof as a model might have answered: whole, cut, with another premise, or going round and round."""
    match random.choice(["whole", "dropped", "swapped", "repeated"]):
        case "dropped":
            steps.pop(random.randrange(len(steps)))
        case "swapped":
            steps[random.randrange(len(steps))] = random.choice(sentences(question))
        case "repeated":
            steps = (steps * LONGEST)[:LONGEST]
    return steps


def drawn(n: int) -> Iterator[tuple[str, Answers]]:
    """Answers to drawn questions, by rule."""
    random = Random(0)
    for rule in prontoqa.RULES:
        answers: Answers = []
        for number in range(n):
            hops = 1 if rule in prontoqa.ONE_HOP_RULES else 1 + number % 3
            width = 2 if rule == "implication_elimination" else 2 + number % 2
            (example,) = prontoqa.generate(rule, hops, shots=0, n=1, seed=number, width=width, distractors="irrelevant")
            answers.append((example.judged, " ".join(spoilt(random, list(example.steps), example.question))))
        yield rule, answers


def published(folder: Path, n: int) -> Answers:
    """What real models answered, evenly from all of their runs."""
    prompts = json.loads((folder / "prompts.json").read_text())
    answers: Answers = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            run = json.loads(line)
            answers += zip(prompts[run["prompts"]]["prompts"], run["predictions"], strict=True)
    return answers[:: max(1, len(answers) // n)]


def measure(answers: Answers) -> dict[str, float]:
    """Seconds of processor time for 10,000 answers like these, and milliseconds of the median and of the slowest."""
    taken = []
    for question, answer in answers:
        began = time.process_time_ns()
        prontoqa.judge(question, answer)
        taken.append((time.process_time_ns() - began) / 1e6)
    return {
        "seconds_for_10000": 10 * statistics.mean(taken),
        "median_ms": statistics.median(taken),
        "slowest_ms": max(taken),
        "n": len(taken),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1500, help="drawn answers for each rule (default 1,500)")
    parser.add_argument("--quick", action="store_true", help="few answers, to see that it runs")
    options = parser.parse_args()
    n = 30 if options.quick else options.n
    sets = dict(drawn(n))
    if "CIRCUITKIT_DATA" in os.environ:
        sets["eleven models"] = published(
            Path(os.environ["CIRCUITKIT_DATA"]) / "prontoqa", 300 if options.quick else 11_400
        )
    else:
        print("CIRCUITKIT_DATA is not set: real models' answers are left out\n")
    print(f"{'':<26}{'answers':>9}{'s/10,000':>10}{'median ms':>11}{'slowest ms':>12}")
    rows = {}
    for name, answers in sets.items():
        rows[name] = row = measure(answers)
        print(
            f"{name:<26}{row['n']:>9,}{row['seconds_for_10000']:>10.1f}{row['median_ms']:>11.2f}{row['slowest_ms']:>12.1f}"
        )
    about = {
        "benchmark": "judge",
        "quick": options.quick,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps({**about, "rows": rows}))


if __name__ == "__main__":
    main()
