"""`circuitkit eval MODEL`: a model answers the questions of a task, and its answers are judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from circuitkit.commands.ablate.options import pairs_of_numbers
from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import Numbers, Words, assigned

if TYPE_CHECKING:
    from circuitkit.evaluation import Decoding, Evaluation

_EXAMPLES = """\
Every response is kept as it ends, so that the same command goes on where it was cut short.

```
circuitkit eval deductor-130k --task prontoqa/implication_elimination/3 --shots 0 --limit 50
circuitkit eval gpt2 --task csqa --decoding paper --out gpt2-csqa
circuitkit eval deductor-130k --task prontoqa/implication_elimination/3 --shots 0 --limit 50 --ablate-heads 1.2 \\
    --compare evaluation --out ablated
circuitkit eval Qwen/Qwen2.5-7B-Instruct --harness aime24 aime25 --temperature 0.6 --seeds 0 1 2 3 \\
    --max-new-tokens 29000 --out aime
```
"""
eval = App(name="eval", help_epilogue=_EXAMPLES)
_DECODING = Group("Decoding", sort_key=1)


@Parameter(name="*")
@dataclass(frozen=True)
class Decode:
    """How tokens are chosen."""

    decoding: Annotated[Literal["clean", "paper"] | None, Parameter(group=_DECODING)] = None
    """clean: the likeliest token. paper: the same under a repetition penalty of 0.0001, as Hsiao & Dutta ran it, which
    all but forbids words that are not in the prompt. clean if not given."""

    temperature: Annotated[float, Parameter(group=_DECODING)] = 0.0
    """Draw tokens at this temperature; 0 takes the likeliest."""

    top_k: Annotated[int | None, Parameter(group=_DECODING)] = None
    """Draw among so many of the likeliest tokens; all if 0 or not given, but with --harness see there."""

    top_p: Annotated[float | None, Parameter(group=_DECODING)] = None
    """Draw among the likeliest tokens that hold this share of the probability; 1 if not given."""

    min_p: Annotated[float | None, Parameter(group=_DECODING)] = None
    """Draw among tokens at least this share as likely as the likeliest; 0 if not given."""

    repetition_penalty: Annotated[float | None, Parameter(group=_DECODING)] = None
    """Divide what a token said before scores by this; 1, for none, if not given."""

    def given(self) -> dict[str, Any]:
        """The settings beside temperature that are given, as `generate` calls them.

        >>> Decode(top_k=0, top_p=1.0).given()
        {'top_k': 0, 'top_p': 1.0}
        """
        named = ("top_k", "top_p", "min_p", "repetition_penalty")
        return {name: getattr(self, name) for name in named if getattr(self, name) is not None}

    def way(self) -> str | Decoding:
        """The decoding by its name, or one of these settings.

        Raises:
            EvaluationError: a setting is outside its range.
            ValueError: a name and settings of its own are given at once.

        >>> Decode("paper").way()
        'paper'
        """
        from circuitkit.evaluation import Decoding

        own = Decoding(**{"temperature": self.temperature, **self.given(), "top_k": self.top_k or None})
        if own == Decoding():
            return self.decoding or "clean"
        if self.decoding is not None:
            raise ValueError(f"--decoding {self.decoding} has its own settings: leave it out, or the others")
        return own


@eval.default
def answering(
    model: str,
    *,
    task: str | None = None,
    harness: Words = None,
    questions: Words = None,
    decode: Decode | None = None,
    shots: int | None = None,
    limit: int | None = None,
    seeds: Numbers = None,
    samples: int = 1,
    max_new_tokens: int | None = None,
    chat: Annotated[bool, Parameter(negative="")] = False,
    think: bool | None = None,
    ablate_heads: Words = None,
    by: Words = None,
    compare: Path | None = None,
    batch_size: int | None = None,
    out: Path = Path("evaluation"),
    load_as: LoadAs | None = None,
) -> None:
    """Let a model answer the questions of a task, and judge its answers.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    task
        A task's name, such as csqa, gsm8k or prontoqa/implication_elimination/3, the path of a task file, or a set of
        a file of prompts, such as prompts.json:OrElim/8shot.
    harness
        In place of --task, tasks of lm-evaluation-harness by its names, such as aime24 gpqa_diamond_cot_zeroshot, each
        asked once with each seed. How tokens are drawn is then as the model's generation config says where no option
        does: often among the 50 likeliest, unless --top-k 0.
    questions
        With --harness, files of questions in place of a task's data set, each written TASK=PATH.
    shots
        Exemplars before each question; as many as the task wants and the model's context holds if not given.
    limit
        The first questions alone; all if not given.
    seeds
        Answer each question anew with each of these seeds; for drawn tokens. 0 if not given.
    samples
        Responses of each question and seed; for drawn tokens.
    max_new_tokens
        Tokens at which a response is broken off; the task's if not given.
    chat
        Put the prompt into the tokenizer's chat template.
    think
        With --chat, turn thinking on or off, where the template can; what follows the thought is judged.
    ablate_heads
        Heads that write nothing throughout, as layer.head, such as 2.1 2.3.
    by
        Groups of questions, such as rule hops, that the table has a row for; all that the task has if not given.
    compare
        The folder of another evaluation of the same questions, to compare item by item.
    batch_size
        Responses written at a time; as many as the memory holds if not given, and 8 with --harness.
    out
        Folder for the responses (JSON lines, or with --harness JSON), the table (CSV), the figure (PNG, SVG) and
        provenance (JSON).
    """
    import circuitkit as ck
    from circuitkit import plots
    from circuitkit.commands import harness as by_harness
    from circuitkit.evaluation import Evaluation
    from circuitkit.tasks import load as load_task

    decode = decode or Decode()
    way = decode.way()
    heads = pairs_of_numbers(ablate_heads or [], "head")
    held = [ck.zero(ck.Site("z", layer=layer, head=head)) for layer, head in heads]
    if (task is None) == (harness is None):
        raise ValueError("say what is asked: either --task, or --harness with tasks of lm-evaluation-harness")
    if task is None:
        named = {"--decoding": decode.decoding is not None, "--shots": shots is not None}
        by_harness.refuse(
            {**named, "--samples": samples != 1, "--by": by is not None, "--compare": compare is not None}
        )
        own = assigned(questions or [], "--questions", "TASK=PATH", "aime24=own.jsonl")
        by_harness.ask(
            load(model, load_as),
            harness or [],
            held,
            decode.temperature,
            decode.given(),
            own,
            out,
            think=think,
            batch_size=batch_size,
            seeds=seeds or (0,),
            max_gen_toks=max_new_tokens,
            limit=limit,
            chat=chat,
        )
        return
    if questions is not None:
        raise ValueError("--questions is for --harness: give a task file as --task instead")
    asked = load_task(task)
    other = None if compare is None else Evaluation.load(compare)
    loaded = load(model, load_as)
    found = ck.evaluate(
        loaded,
        asked,
        held,
        decoding=way,
        shots=shots,
        seeds=tuple(seeds or (0,)),
        samples=samples,
        limit=limit,
        max_new_tokens=max_new_tokens,
        chat=chat,
        think=think,
        batch_size=batch_size,
        out=out,
    )
    groups = tuple(by) if by is not None else found.groups
    found.save_beside(out, *groups)
    plots.save(found.plot(*groups), out / "accuracy.png")
    _tell(found, groups, other, out)


def _tell(found: Evaluation, groups: tuple[str, ...], other: Evaluation | None, out: Path) -> None:
    from circuitkit.evaluation import compare

    given = "1 exemplar" if found.shots == 1 else f"{found.shots} exemplars"
    print(f"{found.task}, {found.model}: {given}, {found.decoding} decoding")
    table = found.by(*groups)
    shares = [*found.judges[1:], "accuracy", "low", "high", "unparseable", "truncated"]
    table[shares] = (100 * table[shares]).round(1)
    print(table.rename(columns={"accuracy": found.judges[0]}).round(2).to_string(index=False))
    print(f"right {found.accuracy}")
    print(f"unparseable {found.unparseable}")
    print(f"truncated {found.truncated}")
    if found.over_seeds().n > 1:
        over = found.over_seeds()
        print(f"mean over {over.n} seeds {100 * over.mean:.1f} %, standard error {100 * over.standard_error:.1f}")
    if other is not None:
        print(f"{other.model} before and {found.model} now: {compare(other, found)}")
    print(f"responses, table, figure and provenance are in {out}/")
