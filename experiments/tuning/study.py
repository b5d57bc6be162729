"""The run of `finetuning.py`: trainings and questions as cells of two sweeps, so that all of it resumes."""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from sweeps import ended_well

import circuitkit as ck
from circuitkit.studies import Cell, Pretrained
from tuning import newlines
from tuning.asking import Asked
from tuning.cells import Reinforcing, Tuning, fine_tuned, proved, reinforced
from tuning.plans import CURRICULA, Plan
from tuning.tables import answers_table
from tuning.texts import EASY, HARD, RULES, Data

TWIN = "-newlines"
DECODINGS = ("clean", "paper")
AFTER = ("fine-tuning on hard rules", "fine-tuning on all", "GRPO on hard rules")


@dataclass(frozen=True)
class Job:
    """One training: which model, on what, how, and what tables call it."""

    model: str
    training: str
    seed: int
    start: Pretrained
    data: Data
    how: Tuning | Reinforcing

    def cell(self, out: Path) -> Cell:
        """As a cell, which keeps its training in a folder of its own."""
        function = reinforced if isinstance(self.how, Reinforcing) else fine_tuned
        folder = out / "trained" / slug(self.model) / slug(f"{self.training} seed {self.seed}")
        parameters = {"model": self.start, "data": self.data, "how": self.how, "seed": self.seed, "folder": str(folder)}
        return Cell(function, parameters)


@dataclass(frozen=True)
class Start:
    """A model before training: its weights, number of parameters and tokenizer."""

    weights: Pretrained
    parameters: int
    tokenizer: Any


@dataclass(frozen=True)
class Subject:
    """A model as it is asked: untrained or trained, with the name of its training."""

    model: str
    training: str
    seed: int
    weights: Pretrained


@dataclass(frozen=True)
class Running:
    """Where and how cells run."""

    out: Path
    workers: int = 1
    progress: bool = True

    def sweep(self, cells: Sequence[Cell], folder: str) -> pd.DataFrame:
        """Run cells, those that failed before too; a row a cell, in their order.

        Raises:
            SystemExit: any failed; they are named.
        """
        return ended_well(
            ck.sweep(cells, self.out / folder, workers=self.workers, retry_failed=True, progress=self.progress)
        ).frame

    def train(self, jobs: Sequence[Job]) -> pd.DataFrame:
        """Run trainings; a row a job: its names, what it ended with, and where its weights are."""
        frame = self.sweep([job.cell(self.out) for job in jobs], "trainings")
        names = pd.DataFrame([{"model": job.model, "training": job.training, "seed": job.seed} for job in jobs])
        kept = [name for name in frame.columns if name not in ("model", "seed", "data", "how", "folder", "function")]
        return pd.concat([names, frame[kept].reset_index(drop=True)], axis=1)

    def ask(self, asked: Iterable[tuple[Subject, Asked, str]]) -> pd.DataFrame:
        """Ask models; a row for each rule and number of hops of each subject and way of asking."""
        several = list(asked)
        # The same weights may stand for several subjects, and a sweep has every cell once.
        keys = [(who.weights.name, how, way) for who, how, way in several]
        cells = {
            key: Cell(proved, {"model": who.weights, "asked": how, "decoding": way})
            for key, (who, how, way) in zip(keys, several, strict=True)
        }
        frame = self.sweep(list(cells.values()), "answers")
        rows = dict(
            zip(cells, frame[["parameters", "shots_given", "answers", "shown"]].to_dict("records"), strict=True)
        )
        told = [
            {**named(who, how), "decoding": way, **rows[key]}
            for key, (who, how, way) in zip(keys, several, strict=True)
        ]
        return answers_table(pd.DataFrame(told))


def named(who: Subject, how: Asked) -> dict[str, str | int]:
    """A subject and a way of asking as columns."""
    told: dict[str, str | int] = {"model": who.model, "training": who.training, "seed": who.seed}
    return told | {"of": how.of, "shots": how.shots, "separator": how.separator, "words": how.words}


def slug(name: str) -> str:
    """A name as a folder's."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-")


def starts(plan: Plan, out: Path) -> dict[str, Start]:
    """Each model as it is before training, and its size; twins are made where they are not there yet."""
    found = {}
    for name in plan.models:
        weights = Pretrained(name)
        if name.endswith(TWIN):
            folder = out / "twins" / slug(name)
            if not folder.is_dir():
                _save_whole(newlines.merged_twin(ck.load(name.removesuffix(TWIN))), folder)
            weights = Pretrained(str(folder))
        model = ck.load(weights.name)
        found[name] = Start(weights, sum(each.numel() for each in model.hf.parameters()), model.tokenizer)
        del model
        gc.collect()
    return found


def _save_whole(model: ck.Model, folder: Path) -> None:
    """Save a model, all of it or nothing: a run may be killed, or share the folder with another that saves the same."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        beside = Path(place) / folder.name
        model.tokenizer.save_pretrained(beside)
        model.hf.save_pretrained(beside)
        try:
            beside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def trainings(plan: Plan, begun: Mapping[str, Start]) -> list[Job]:
    """The published training of each model; and where rules are left out, those on proofs of all rules or of fewer."""
    jobs = [
        Job(
            model,
            "all",
            seed,
            start.weights,
            plan.data(seed),
            plan.rated(plan.tuning, start.parameters),
        )
        for model, start in begun.items()
        for seed in plan.seeds
    ]
    for seed in plan.transfer_seeds:
        whole = plan.data(seed)
        chosen = {"proofs of all": whole}
        chosen |= {f"proofs without {rule}": replace(whole, rules=others(rule)) for rule in RULES}
        chosen["proofs without words"] = replace(whole, withheld=plan.withheld)
        for model in plan.transfer:
            start = begun[model]
            how = plan.rated(plan.transferring_of.get(model, plan.transferring), start.parameters)
            jobs += [Job(model, name, seed, start.weights, data, how) for name, data in chosen.items()]
    return jobs


def others(rule: str) -> tuple[str, ...]:
    """All rules but one."""
    return tuple(each for each in RULES if each != rule)


def subjects(plan: Plan, begun: Mapping[str, Start], trained: pd.DataFrame) -> list[Subject]:
    """Every model as it is asked: untrained with each seed's questions, and each training."""
    tuned = [
        Subject(row["model"], row["training"], row["seed"], Pretrained(row["weights"]))
        for row in trained.to_dict("records")
    ]
    seeds = {(who.model, who.seed): None for who in tuned}
    bases = [Subject(model, "none", seed, begun[model].weights) for model, seed in seeds]
    first = plan.seeds[0]
    last = [
        Subject(row["model"], "all, last step", row["seed"], Pretrained(row["last_weights"]))
        for row in trained.to_dict("records")
        if row["training"] == "all" and row["seed"] == first
    ]
    return sorted([*bases, *tuned, *last], key=lambda who: (plan.models.index(who.model), who.training, who.seed))


def tested(plan: Plan, who: Subject) -> Asked:
    """The test questions of a subject's seed, as they were published."""
    return Asked(
        seed=who.seed,
        n=plan.n,
        trials=plan.trials,
        duplicates=plan.duplicates,
        max_new_tokens=plan.max_new_tokens,
    )


def questions(plan: Plan, who: Subject) -> list[tuple[Subject, Asked, str]]:
    """What a subject is asked, by the name of its training."""
    test = tested(plan, who)
    plain = replace(test, separator="trained")
    first = who.seed == plan.seeds[0]
    ways: list[tuple[Asked, str]] = [(plain, "clean")]
    if first and who.training in ("none", "all", "all, last step"):
        ways += [(test, decoding) for decoding in DECODINGS]
        ways += [(plain, "paper")] if who.training != "none" else []
        ways += [(replace(test, shots=3), decoding) for decoding in DECODINGS if who.training == "none"]
    if first and who.training in ("none", "all", "proofs of all") and plan.hops:
        further = replace(test, rules=EASY, hops=plan.hops)
        # The base's proofs of more hops are held against those behind the published separator.
        ways += [(further, "clean"), (replace(further, separator="trained"), "clean")]
    if who.training in ("all", "proofs of all"):
        ways.append((replace(plain, of="training"), "clean"))
        if not who.model.startswith(("deductor-", "planted-")):
            ways.append((replace(plain, words="new names"), "clean"))
    if who.training == "proofs without words":
        words = ("known", "withheld", "withheld names")
        ways = [(replace(plain, words=each, withheld=plan.withheld), "clean") for each in words]
    return [(who, how, decoding) for how, decoding in ways]


def staged(plan: Plan, begun: Mapping[str, Start], running: Running) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train in stages, and on hard rules after; give the trainings, and the answers of each way's end."""
    trained, at = through_stages(plan, begun, running)
    ends = [Subject(model, name, seed, weights) for (model, name, seed), weights in at.items()]
    later = [
        Job(model, f"mixed, then {name}", seed, at[model, "mixed", seed], *after(plan, begun[model], name, seed))
        for model in plan.staged
        for seed in plan.staged_seeds
        for name in AFTER
    ]
    frame = running.train(later)
    trained.append(frame.assign(arm=[job.training for job in later]))
    ends += [
        Subject(job.model, job.training, job.seed, Pretrained(weights))
        for job, weights in zip(later, frame["weights"], strict=True)
    ]
    asked = []
    for who in ends:
        test = replace(tested(plan, who), separator="trained")
        asked += [(who, test, "clean")]
        asked += [(who, replace(test, rules=EASY, hops=plan.hops), "clean")]
    return pd.concat(trained, ignore_index=True), running.ask(asked)


def through_stages(
    plan: Plan, begun: Mapping[str, Start], running: Running
) -> tuple[list[pd.DataFrame], dict[tuple[str, str, int], Pretrained]]:
    """Train in each order of stages; give all trainings, and the weights at the end by model, order and seed."""
    trained: list[pd.DataFrame] = []
    at = {
        (model, name, seed): begun[model].weights
        for model in plan.staged
        for seed in plan.staged_seeds
        for name in CURRICULA
    }
    for number in range(max(map(len, CURRICULA.values()))):
        jobs = {}
        for (model, name, seed), start in at.items():
            stages = CURRICULA[name][: number + 1]
            steps = max(1, round(stages[-1].share * plan.staged_steps))
            how = replace(plan.rated(plan.staging, begun[model].parameters), steps=steps)
            data = stages[-1].data(seed, plan.trials, plan.duplicates)
            training = "stages, " + " + ".join(stage.name for stage in stages)
            jobs[model, name, seed] = Job(model, training, seed, start, data, how)
        frame = running.train(list(jobs.values()))
        trained.append(frame.assign(arm=[name for _, name, _ in jobs]))
        at = {key: Pretrained(weights) for key, weights in zip(jobs, frame["weights"], strict=True)}
    return trained, at


def after(plan: Plan, start: Start, name: str, seed: int) -> tuple[Data, Tuning | Reinforcing]:
    """On what and how a model is trained further."""
    every = CURRICULA["mixed"][0].data(seed, plan.trials, plan.duplicates)
    data = plan.data(seed, HARD) if name.endswith("hard rules") else every
    if name.startswith("GRPO"):
        return data, replace(plan.grpo, steps=plan.after)
    return data, replace(plan.rated(plan.staging, start.parameters), steps=plan.after)
