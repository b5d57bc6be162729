"""The same study on models of the hub: reasoning traces such as s1K-1.1's, and contests that models are asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import circuitkit as ck
from circuitkit.evaluation import Decoding, Evaluation
from circuitkit.tasks.sources import FORMATS, HubData, Rows, from_file, from_hub
from circuitkit.training import Example, TrainingError

S1K = "simplescaling/s1K-1.1"
FIELDS = {"question": "question", "trace": "deepseek_thinking_trajectory", "answer": "deepseek_attempt"}
# How s1's pipeline marks the two sections of an assistant's turn (Muennighoff et al. 2025, arXiv 2501.19393).
SECTIONS = "<|im_start|>think\n{trace}\n<|im_start|>answer\n{answer}"
ANSWER = "Answer: "


@dataclass(frozen=True)
class Traces:
    """Questions with a reasoning trace and an answer each, which a chat model is taught to write.

    Attributes:
        source: a data set of the hub (its split "train"), or a file (.jsonl, .json, .csv).
        n: how many, the first; all, if None.
        fields: what the rows call question, trace and answer.
        sections: how trace and answer stand in the assistant's turn.
    """

    source: str
    n: int | None = 1000
    fields: Mapping[str, str] = field(default_factory=lambda: dict(FIELDS))
    sections: str = SECTIONS

    def examples(self) -> list[Example]:
        """The rows as examples: what is asked, and the assistant's turn.

        Raises:
            TrainingError: a row lacks a field or has nothing in it; its place is named.
        """
        found = []
        for row in self._rows().rows[: self.n]:
            part = {}
            for name, column in self.fields.items():
                value = row.get(column)
                if not isinstance(value, str) or not value.strip():
                    raise TrainingError(
                        f"{row.place}: the field {column!r}, which is to hold the {name}, is missing or empty; the row "
                        f"has {', '.join(row.values)}"
                    )
                part[name] = value.strip()
            # As s1 does it: without the word, answers that end a trace are hard to find.
            answer = part["answer"] if ANSWER.strip() in part["answer"] else ANSWER + part["answer"]
            chain = self.sections.format(trace=part["trace"], answer=answer)
            found.append(Example(part["question"], chain, key=f"{row.number:04d}"))
        return found

    def _rows(self) -> Rows:
        path = Path(self.source)
        return from_file(path) if path.suffix in FORMATS or path.exists() else from_hub(HubData(self.source, "train"))


@dataclass(frozen=True)
class Contest:
    """A contest, asked as the paper does: tokens are drawn at a temperature, anew with each of some seeds.

    Attributes:
        task: a name or path of `ck.tasks.load`: "aime" is AIME 2024 and 2025 together, sixty problems.
        seeds: of the draws; a run each.
        temperature: of the draws; 0 is greedy, and then one seed is all there is.
        max_new_tokens: where a response is broken off.
        limit: the first problems alone.
        read: traces that models read to be compared, and how many of them.
    """

    task: str
    read: Traces
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    temperature: float = 0.6
    max_new_tokens: int = 29_000
    limit: int | None = None
    n_read: int = 64

    def evaluated(self, model: ck.Model) -> Evaluation:
        """A model's answers, in its chat template."""
        decoding = Decoding(temperature=self.temperature, name=f"temperature {self.temperature:g}")
        return ck.evaluate(
            model,
            self.task,
            decoding=decoding,
            shots=0,
            seeds=self.seeds if self.temperature > 0 else self.seeds[:1],
            limit=self.limit,
            max_new_tokens=self.max_new_tokens,
            chat=True,
            progress=True,
        )

    def texts(self) -> list[str]:
        """Questions with the beginning of their traces, as plain text: what all models read in the same tokens."""
        return [f"{each.question}\n{each.chain}"[: 4 * 512] for each in self.read.examples()[: self.n_read]]
