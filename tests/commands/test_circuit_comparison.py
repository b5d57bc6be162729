"""`circuitkit circuit compare` and `show`: what they write is what the API finds; mistakes are told in one line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

import circuitkit as ck
from circuitkit.circuits import Cohorts, Curve, Graph, HeadChanges
from report.circuit_folders import curve
from shell import Run

BASE, POST, OTHER = "deductor-5k-base", "deductor-5k-reason", "deductor-5k"
VERB = "circuit"
TABLES = {f"{name}.csv" for name in ("heads", "layers", "overlap", "complexity")}
FIGURES = {"heads.png", "circuits.png"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scores of three models on the same pairs: two circuits in folders of their own, and one that is uncut."""
    folder, found = tmp_path_factory.mktemp("graphs"), {}
    for name in (BASE, POST, OTHER):
        model = ck.load(name)
        pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
        graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
        found[name] = (graph if name == OTHER else graph.top(20).prune()).save(folder / name / "graph.safetensors")
    found["json"] = Graph.load(found[BASE]).to_eap_ig(folder / "graph.json", d_model=model.d_model)
    return found


def check_pictures(folder: Path) -> set[str]:
    found = {path.name for path in folder.glob("*.png")}
    assert all(image.imread(folder / name).shape[0] > 100 for name in found)
    return found


def test_graphs_are_compared_as_the_api_compares_them(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for stale in ("survival.png", "cohorts_frame.csv", "0_another.safetensors", "0_another_curve.safetensors"):
        (tmp_path / stale).write_text("of an earlier comparison")
    (own := tmp_path / "3_of_mine_curve.safetensors").write_text("beside no graph of a comparison")
    measured = curve(Graph.load(files[POST]))
    measured.save(files[POST].parent)
    assert run("compare", files[BASE].parent, files[POST], "--resamples", 10, "--out", tmp_path) == 0
    base, post = Graph.load(files[BASE]), Graph.load(files[POST])
    expected = ck.circuits.emergent_heads(base, post, names=(BASE, POST), resamples=10, progress=False)
    changes = HeadChanges.load(tmp_path / "head_changes.safetensors")
    assert changes.frame.equals(expected.frame) and str(changes) == str(expected)
    tables = {name: pd.read_csv(tmp_path / name) for name in TABLES}
    assert tables["heads.csv"]["change"].tolist() == expected.frame["change"].tolist()
    assert tables["overlap.csv"].loc[0, "both"] == (base & post).size
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["emergent"] == len(expected.emergent)
    assert summary["heads_emergent"] == [list(head) for head in expected.emergent]
    assert check_pictures(tmp_path) == FIGURES and {path.name for path in tmp_path.glob("*.csv")} == TABLES
    assert Graph.load(tmp_path / f"1_{POST}.safetensors") == post
    # What find measured beside a graph goes with it; the other has none.
    (taken,) = set(tmp_path.glob("*_curve.safetensors")) - {own}
    assert (
        own.is_file() and taken.name == f"1_{POST}_curve.safetensors" and Curve.load(taken).frame.equals(measured.frame)
    )
    told = json.loads((tmp_path / "provenance.json").read_text())
    assert told["circuits"] == {BASE: "the file's own", POST: "the file's own"} and told["resamples"] == 10
    said = capsys.readouterr().out
    assert said.startswith(f"Circuits: the file's own\n{expected}\nOverlap\nedges: ")
    assert said.splitlines()[-1] == f"Graphs, tables and figures are in {tmp_path}/"


def test_what_is_uncut_is_cut_and_files_of_one_name_stay_apart(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph.load(files[OTHER])
    same = [graph.save(tmp_path / name / "scores.safetensors") for name in ("one", "two")]
    assert run("compare", *same, "--resamples", 0, "--no-prune", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.startswith("Circuits: the 2 strongest edges by magnitude\n")
    assert all(str(file) in said for file in same) and "emergent: 0 heads\n" in said
    assert len(list((tmp_path / "out").glob("*scores*.safetensors"))) == 2


def test_models_are_scored_on_the_same_pairs(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--top", 20, "--method", "eap", "--n", 4, "--resamples", 0]
    assert run("compare", BASE, POST, *few, "--out", tmp_path) == 0
    for place, name in enumerate((BASE, POST)):
        assert Graph.load(tmp_path / f"{place}_{name}.safetensors").scores.allclose(Graph.load(files[name]).scores)
    said = capsys.readouterr().out
    assert said.startswith("Circuits: the 20 strongest edges by magnitude, pruned\n")
    assert f"{BASE}: " in said and f"; {POST}: " in said


def test_openings_give_pairs_of_their_own(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--share", 0.3, "--method", "eap-ig", "--steps", 1, "--n", 2, "--resamples", 0, "--openings", "proofs"]
    assert run("compare", BASE, POST, *few, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert f"{BASE}: 2 pairs, direct openings clean" in said and f"{POST}: 2 pairs, thinking openings clean" in said
    assert Graph.load(tmp_path / f"0_{BASE}.safetensors").convention.metric == "kl"


def test_show_tells_and_draws_a_file(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    graph = Graph.load(files[BASE])
    assert run("show", files[BASE].parent, "--edges", 3, "--heads", 2, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert f"Scores: {graph.convention}\n" in said and f"Circuit: {graph.size} of {graph.layout.n_edges} edges" in said
    assert f"Strongest edges of the circuit (3 of {graph.size})" in said and "(2 of 4):" in said
    assert graph.frame["source"][0] in said and f"model {BASE}" in said
    assert pd.read_csv(tmp_path / "circuit.csv")["score"].tolist() == pytest.approx(graph.frame["score"].tolist())
    heads = pd.read_csv(tmp_path / "heads.csv")
    inside = heads[heads["in_circuit"]][["layer", "head"]].itertuples(index=False, name=None)
    assert sorted(inside) == sorted(graph.heads)
    assert heads["importance"].max() == pytest.approx(graph.importance().max().item())
    assert check_pictures(tmp_path) == {"circuit.png", "heads.png"}
    assert json.loads((tmp_path / "provenance.json").read_text())["convention"] == str(graph.convention)


def test_show_leaves_a_file_as_it_is_unless_edges_are_selected(
    run: Run,
    tmp_path: Path,
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = Graph.load(files[OTHER]).layout.n_edges
    assert run("show", files[OTHER]) == 0
    assert f"Circuit: {whole} of {whole} edges (uncut: all edges)" in capsys.readouterr().out
    assert run("show", files[OTHER], "--top", 4, "--no-prune", "--edges", 0, "--heads", 0) == 0
    said = capsys.readouterr().out
    assert f"Circuit: 4 of {whole} edges, " in said and "Strongest" not in said and "Heads" not in said
    assert not list(tmp_path.iterdir())


def test_show_reads_json_and_asks_what_its_signs_say(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["show", files["json"], "--by", "signed", "--top", 4, "--no-prune", "--positive", "lowers"]
    assert run(*words, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "eap-ig of an unnamed metric" in said and "positive: corrupting lowers the metric" in said
    assert "command" not in said and "read_from graph.json" in said
    best = Graph.load(files[BASE]).top(4, by="signed")
    assert set(pd.read_csv(tmp_path / "circuit.csv")["source"]) == set(best.frame["source"])


def test_json_with_a_node_that_is_not_there_is_refused(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(files["json"].read_text())
    told["nodes"]["a7.h7"] = told["nodes"].pop("a0.h0")
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(told))
    assert run("show", bad) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"circuitkit: {bad}: ") and "a7.h7" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", BASE, BASE], "one of them is named twice, and nothing differs from itself"),
        (["compare", "{base}", "{folder}"], "one of them is named twice"),
        (["compare", "{base}", POST], "some are graphs and some are models"),
        (["compare", "{base}", "{post}", "--n", 3], "graphs are compared as they are"),
        (["compare", "{base}", "{post}", "--method", "eap"], "graphs are compared as they are"),
        (["compare", "{base}", "{post}", "--openings", "proofs"], "graphs are compared as they are"),
        (["compare", "{base}", "{post}", "--by", "signed"], "say how many to take anew, with --top"),
        (["compare", "{base}", "{post}", "--positive", "raises"], "leave --positive out"),
        (["compare", "{base}", "{json}"], "the scores of these graphs mean other things"),
        (["compare", "{base}", "{json}", "--by", "signed", "--top", 3], "give --positive lowers or raises"),
        (["compare", "{base}", "gone.safetensors"], "gone.safetensors: no such file"),
        (
            ["compare", BASE, "deductor-20k", "--n", 2, "--method", "eap"],
            "a graph of another architecture: heads of layer 0 are 2",
        ),
        (["compare", BASE, POST, "--problems", "gone.txt"], "--problems are opened in two ways"),
        (
            ["compare", BASE, POST, "--openings", "proofs", "--metric", "probability"],
            "--openings makes pairs of its own",
        ),
        (["compare", BASE, POST, "--resamples", 1], "--resamples 1 has nothing to compare"),
        (["compare", "{base}", "{post}", "--top", 1], "no edge is left of the 1 strongest edge by magnitude, pruned"),
        (["show", "gone"], "gone: no such file; circuitkit circuit find writes one"),
        (["show", "{base}", "--edges", -1], "--edges and --heads are how many to print"),
        (["show", "{base}", "--no-prune"], "say how many to take anew, with --top"),
        (["show", "{json}", "--by", "signed", "--top", 3], "give --positive lowers or raises"),
        (["show", "{base}", "--positive", "lowers"], "leave --positive out"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run,
    tmp_path: Path,
    files: dict[str, Path],
    words: list[object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"base": files[BASE], "folder": files[BASE].parent, "post": files[POST], "json": files["json"]}
    assert run(*(word.format(**places) if isinstance(word, str) else word for word in words)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("circuitkit: ")
    assert not any("Traceback" in line for line in said)


def test_heads_are_followed_over_checkpoints_in_order(
    run: Run, tmp_path: Path, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    graph, out = Graph.load(files[OTHER]), tmp_path / "out"
    steps = [graph.save(tmp_path / f"step{step}.safetensors") for step in (20, 3)]
    settings = ["--top", 20, "--resamples", 0, "--out", out]
    assert run("compare", files[OTHER], *steps, *settings) == 2
    assert "give checkpoints in order" in capsys.readouterr().err and not out.exists()
    assert run("compare", files[OTHER], *steps[::-1], *settings) == 0
    assert "2 checkpoints (step 3 to 20)" in capsys.readouterr().out
    cohorts = Cohorts.load(out / "head_cohorts.safetensors")
    assert cohorts.steps == (3, 20) and not cohorts.emergent
    for name in ("frame", "counts", "turnover", "survival"):
        assert len(pd.read_csv(out / f"cohorts_{name}.csv")) == len(getattr(cohorts, name))
    assert check_pictures(out) == FIGURES | {"cohorts.png", "activation.png", "survival.png"}


def test_show_has_drawn_all_before_its_reader_may_be_gone(
    run: Run, tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*told: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("circuitkit.commands.circuit.telling.tell_graph", gone)
    with pytest.raises(BrokenPipeError):
        run("show", files[BASE], "--out", tmp_path)
    assert check_pictures(tmp_path) == {"circuit.png", "heads.png"}
