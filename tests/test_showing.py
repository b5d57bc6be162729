"""Results show themselves in notebooks: small, all of it text, the same each time; elsewhere in a line."""

import ast
import re
import string
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes

import circuitkit as ck
from circuitkit import report
from circuitkit.doctor.examination import Check, Examination
from circuitkit.results import Baseline, Result
from circuitkit.tasks import prontoqa

Made = Callable[[Path], Any]
TAGS = {"div", "p", "strong", "small", "table", "thead", "tbody", "tr", "th", "td"}
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x00 --> {{ 7 * 7 }} $x$"
hostile = st.text(string.printable + "\u2028\u202e\x00é中", max_size=60)


class Read(HTMLParser):
    """What a browser would make of a cell: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@cache
def model(name: str = "deductor-5k") -> ck.Model:
    return ck.load(name)


@cache
def task() -> Any:
    return prontoqa.task("implication_elimination", shots=0, n=2, seed=0)


@cache
def pairs() -> ck.Pairs:
    names = ("wumpus", "dumpus", "lempus", "yumpus", "zumpus", "rompus")
    clean = [f"Fae is a {one}. Prove: Fae is a {one}." for one in names]
    corrupt = [f"Fae is a {one}. Prove: Fae is a {one}." for one in (*names[1:], names[0])]
    return ck.Pairs(clean, corrupt, [f" {one}" for one in names], [f" {one}" for one in (*names[1:], names[0])])


@cache
def graph(name: str = "deductor-5k") -> Any:
    return ck.circuits.attribute(model(name), pairs(), "logit_difference", progress=False).top(12).prune()


@cache
def result() -> Result:
    return ck.patching.sweep(model(), pairs(), over="z", progress=False)


@cache
def evaluation() -> Any:
    return ck.evaluate(model(), task(), progress=False)


def threshold(_: Path) -> Any:
    frame = pd.DataFrame(
        {
            "model": list("abcdefgh"),
            "family": ["x", "y"] * 4,
            "parameters": [1e6 * 2**n for n in range(8)],
            "correct": [2, 3, 2, 3, 20, 40, 60, 80],
            "total": 100,
        }
    )
    return ck.thresholds.find(frame, draws=20, leave_out=False, progress=False)


def _twice(number: int) -> int:
    return 2 * number


def reported(folder: Path) -> report.Report:
    result().save(folder / "heads.safetensors")
    return report.read(folder, progress=False)


def swept(folder: Path) -> Any:
    return ck.sweep([(_twice, {"number": 2})], out=folder / "swept", progress=False)


MAKERS: dict[str, Made] = {
    "Model": lambda _: model(),
    "Pairs": lambda _: pairs(),
    "Pairs of tokens": lambda _: ck.Pairs(torch.ones(2, 3).long(), torch.ones(2, 3).long(), [[1], [2]]),
    "Run": lambda _: model().run(pairs().clean, capture=["z"]),
    "Cache": lambda _: model().run(pairs().clean, capture=["z", "pattern"]).cache,
    "Tokens": lambda _: model().tokens(pairs().clean),
    "Intervention": lambda _: ck.replace("z[layer=0]", torch.zeros(1000)),
    "Result": lambda _: result(),
    "Baseline": lambda _: result().baseline,
    "Joint": lambda _: ck.ablation.sets(model(), pairs(), [[(0, 0)]], controls=2, progress=False),
    "Effects": lambda _: ck.ablation.effects(model(), pairs(), [(0, 0)], progress=False),
    "Attention": lambda _: ck.attention.capture(model(), pairs().clean),
    "TokenScores": lambda _: ck.attention.scores(model(), pairs().clean, progress=False),
    "GoldScores": lambda _: ck.attention.gold_scores(
        model(), [item.question for item in task().items], [item.gold for item in task().items], progress=False
    ),
    "HeadScores": lambda _: ck.attention.score_heads(model(), 2, length=6),
    "TopEdges": lambda _: ck.attention.top_edges(model(), pairs().clean, layer=0, head=0, n=4),
    "Graph": lambda _: graph(),
    "NodeScores": lambda _: ck.circuits.attribute_nodes(model(), pairs(), "logit_difference", progress=False),
    "Faithfulness": lambda _: ck.circuits.faithfulness(model(), graph(), pairs(), "logit_difference", progress=False),
    "HeadChanges": lambda _: ck.circuits.emergent_heads(base=graph("deductor-5k-base"), post=graph()),
    "Overlap": lambda _: ck.circuits.overlap(graph("deductor-5k-base"), graph()),
    "Agreement": lambda _: ck.circuits.agreement({"a": graph(), "b": graph().top(6)}),
    "Task": lambda _: task(),
    "Verdict": lambda _: prontoqa.judge("Fae is a wumpus. Prove: Fae is a wumpus.", "Fae is a wumpus."),
    "Evaluation": lambda _: evaluation(),
    "Comparison": lambda _: ck.evaluation.compare(evaluation(), evaluation()),
    "Delta": lambda _: ck.sfn.delta("deductor-5k-base", "deductor-5k", progress=False),
    "Levels": lambda _: ck.sfn.levels(evaluation(), model(), progress=False),
    "Merged": lambda _: ck.sfn.merge("deductor-5k-base", "deductor-5k", ["o_proj"], dry_run=True, progress=False),
    "Merged in a folder": lambda folder: ck.sfn.merge(
        "deductor-5k-base", "deductor-5k", ["o_proj"], out=folder / "m", progress=False
    ),
    "Destroyed": lambda _: ck.sfn.destroy("deductor-5k", ["o_proj"], dry_run=True, progress=False),
    "LogitLens": lambda _: ck.lens.logit_lens(model(), pairs().clean),
    "Threshold": threshold,
    "Sweep": swept,
    "Report": reported,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_result_shows_itself_small_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](tmp_path)
    html = made._repr_html_()
    read = Read(html)

    assert len(html.encode()) < 50_000
    assert read.tags <= TAGS and read.attributes <= {"style", "scope"}
    assert html == made._repr_html_()
    assert name.split()[0].lower() in read.text.replace(" ", "").lower()
    assert "tensor(" not in html and "#" not in re.sub("&#[0-9]+;", "", html)
    assert f"{type(made).__name__}(" not in read.text  # sentences, not fields
    line = repr(made)
    assert len(line) < 1200 and "tensor(" not in line
    for cell in (html, getattr(made, "_repr_mimebundle_", dict)().get("text/plain", "")):
        assert str(tmp_path) not in cell


def test_a_result_names_its_key_sentence_its_strongest_cell_and_what_else_there_is() -> None:
    text = Read(result()._repr_html_()).text
    strongest = result().top(1).iloc[0]

    assert "survive" in text and "mean of 6 examples" in text
    assert re.search(rf"layer.*{int(strongest['layer'])}.*{int(strongest['head'])}", text, re.DOTALL)
    assert ".frame" in text and ".plot()" in text and ".save(path)" in text


def test_the_plain_text_beside_the_html_tells_what_was_found_too() -> None:
    text = result()._repr_mimebundle_()["text/plain"]

    assert text.startswith("Result('Patching z") and "mean of 6 examples" in text and "survive" in text


def test_texts_stand_left_numbers_right_and_no_place_is_minus_one() -> None:
    html = graph()._repr_html_()

    assert re.search(r'text-align: left">input</td>', html) and "text-align: right" in html
    assert "<td" in html and ">-1<" not in html


def test_of_long_pairs_the_place_where_they_differ_is_seen_and_the_space_of_an_answer() -> None:
    long = "so it is said " * 40
    shown = ck.Pairs([f"{long}of Fae too"], [f"{long}of Rex too"], [" yes"], [" no"])
    text = Read(shown._repr_html_()).text

    assert "of Fae too" in text and "of Rex too" in text and "' yes'" in text
    assert repr(shown) == "Pairs(1 pair: clean, corrupt, answer, distractor)"


def test_what_a_check_says_of_its_failure_stands_at_no_check_that_passed() -> None:
    passed = Check("sums to one", 1e-7, 5e-4, False, True, "do not read the pattern")
    failed = Check("is causal", 0.5, 5e-4, False, False, "run it without packing")
    text = Read(Examination("m", "float32", "cpu", "sdpa", (passed, failed))._repr_html_()).text

    assert "run it without packing" in text and "do not read" not in text
    assert text.index("is causal") < text.index("sums to one")


def test_a_proof_shows_what_the_judge_found_in_each_step() -> None:
    question = "Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud."
    text = Read(prontoqa.judge(question, "Fae is a wumpus. Fae is a dumpus.")._repr_html_()).text

    assert "not correct" in text and re.search(r"Fae is a dumpus\.?\s*invalid\s*invalid", text)


def test_a_long_result_shows_some_rows_and_says_how_many_there_are() -> None:
    long = Result(torch.rand(30, 40, 2), ("layer", "head"), Baseline(torch.ones(2)), "ablate", "kl")

    html = long._repr_html_()

    assert html.count("<tr>") == 9 and "8 of 1,200 rows" in html
    assert len(repr(long)) < 120 and "30 x 40 cells" in repr(long)


@settings(max_examples=40, deadline=None)
@given(hostile, hostile)
@example(HOSTILE, HOSTILE)
@example("/home/me/models/gpt2", "C:\\Users\\me\\models\\gpt2")
def test_what_others_wrote_is_text(name: str, token: str) -> None:
    per_example = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    baseline = Baseline(torch.full((2,), 5.0))
    made = [
        Result(
            per_example,
            ("position",),
            baseline,
            "ablate",
            "kl",
            unit=token,
            title=name,
            labels={"position": (token, name)},
            provenance={"model": name},
        ),
        ck.Pairs([token], [name], [token], [name]),
        prontoqa.judge("Fae is a wumpus. Prove: Fae is a wumpus.", token),
        ck.tasks.Task(name, (ck.tasks.Item("1", token, name or "x", groups={"rule": name}),), {"judge": _never}),
    ]
    for each in made:
        html = each._repr_html_()
        read = Read(html)
        assert len(html.encode()) < 50_000
        assert read.tags <= TAGS and read.attributes <= {"style", "scope"}
        assert not re.search("[\x00-\x08\u2028\u202e]", html)
        assert "/home/me/" not in html and "C:\\Users\\me" not in html


def _never(item: Any, text: str) -> ck.tasks.Judgement:
    return ck.tasks.Judgement(False, None)


def test_the_widest_cell_of_the_worst_letters_stays_small() -> None:
    from circuitkit.report import notebook

    table = pd.DataFrame({f"{HOSTILE}{n}" * 20: ["\u202e&\"'" * 2000] * 50 for n in range(60)})

    html = notebook.html("<&" * 5000, ["&'\u202e" * 9000] * 40, table)

    assert len(html.encode()) < 50_000 and "12 of 60 columns" in html


PLOTTED = [
    name
    for name in MAKERS
    if name.split()[0] in {"Result", "TokenScores", "GoldScores", "TopEdges", "Graph", "NodeScores", "HeadChanges"}
    or name in {"Agreement", "Evaluation", "Delta", "Levels", "Threshold", "Attention"}
]


def test_whatever_can_be_plotted_or_saved_shows_itself_and_gives_axes() -> None:
    """Of all classes by their source, so that none is forgotten; mypy holds what they give against what they say."""
    shows, lacking, others = set(), [], []
    for path in sorted(Path(ck.__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef)}
            if {ast.unparse(base) for base in node.bases} & {"Shown", "InOneFile"}:
                shows.add(node.name)
            elif methods.keys() & {"plot", "save"} and node.name != "InOneFile":
                lacking.append(node.name)
            if "plot" in methods and ast.unparse(methods["plot"].returns or ast.Constant("")) != "Axes":
                others.append(node.name)

    assert {"Result", "Cache", "Graph", "Attention", "Curve", "Delta", "Sweep", "Trained"} <= shows
    assert lacking == ["Planted"] and not others  # a model that is written, no result


@pytest.mark.parametrize("name", PLOTTED)
def test_plot_gives_axes_that_show_the_picture(name: str, tmp_path: Path) -> None:
    made = MAKERS[name](tmp_path)

    axes = made.plot(0, 0) if name == "Attention" else made.plot()

    assert isinstance(axes, Axes)
    if name == "Result":
        axes.set_title("of $x")  # no formula, which would be a broken one
        assert axes._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
        axes.set_title("Patching z, /home/me/models/gpt2")
        assert "/home/me" not in repr(axes) and "…/gpt2" in repr(axes)
        axes.set_xticks([0], ["/a/b/c"])
        drawn = axes._repr_png_()  # type: ignore[attr-defined]
        # The picture alone is without folders: the figure is its maker's.
        assert axes.get_title() == "Patching z, /home/me/models/gpt2"
        assert [each.get_text() for each in axes.get_xticklabels()] == ["/a/b/c"]
        axes.set_title("Patching z, …/gpt2")
        axes.set_xticks([0], ["…/c"])
        assert axes._repr_png_() == drawn  # type: ignore[attr-defined]
