"""`circuitkit circuit find` and `evaluate`: what they write is what the API finds; mistakes are told in one line."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib import image

import circuitkit as ck
from circuitkit.circuits import Completeness, Curve, Faithfulness, Graph, Minimality, Stability
from circuitkit.model import planted
from shell import Run

PLANTED, TOY = "planted-induction-llama", "deductor-5k"
VERB = "circuit"
FEW = ["--n", 4, "--controls", 2]


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = ck.load(TOY)
    pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
    scored = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    return scored.top(20).prune().save(tmp_path_factory.mktemp("graph"))


def test_find_finds_the_planted_circuit(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    assert run("find", PLANTED, "--top", 12, "--resamples", 10, *FEW, "--out", out) == 0
    tables = {f"{name}.csv" for name in ("circuit", "heads", "faithfulness", "summary")}
    figures = {f"{name}.png" for name in ("circuit", "heads", "stability", "curve")}
    kept = {f"{name}.safetensors" for name in ("graph", "stability", "faithfulness", "curve")} | {"provenance.json"}
    drawings = {name.replace(".png", ".svg") for name in figures}
    assert {path.name for path in out.iterdir()} == tables | figures | drawings | kept
    assert all(image.imread(out / name).shape[0] > 100 for name in figures)
    circuit = Graph.load(out)
    assert set(planted.build(PLANTED).circuit.values()) <= set(circuit.heads)
    edges = pd.read_csv(out / "circuit.csv")
    assert len(edges) == circuit.size and edges["frequency"].between(0, 1).all()
    summary = pd.read_csv(out / "summary.csv").loc[0]
    stable = Stability.load(out)
    assert summary["faithfulness"] > 0.9 > 0.5 > summary["random_mean"]
    assert Faithfulness.load(out).value == summary["faithfulness"]
    curve = Curve.load(out)
    assert curve.settings["by"] == "absolute" and curve.sizes[-1] == circuit.layout.n_edges
    assert curve.frame["faithfulness"].iloc[-1] == pytest.approx(1.0)
    assert summary["jaccard"] == pytest.approx(stable.value) and summary["stability"] == stable.verdict
    told = json.loads((out / "provenance.json").read_text())
    assert told["measured_on"] == "fresh pairs" and told["test"]["data_sha256"] != told["data_sha256"]
    said = capsys.readouterr().out
    assert said.startswith(f"Circuit of {PLANTED} (eap-ig of logit_difference, 5 steps (left);")
    for sentence in (
        "Measured on fresh pairs. A circuit of",
        "Random circuits of at least as many edges keep",
        "Stability",
    ):
        assert sentence in said
    assert said.splitlines()[-1] == f"the graph, tables and figures are in {out}/"


def test_exact_scores_of_the_edges_of_a_file_alone(
    run: Run, tmp_path: Path, graph_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--method", "exact", "--edges-of", graph_file, *FEW, "--no-prune"]
    assert run("find", TOY, *words, "--out", tmp_path / "all") == 0
    before, found = Graph.load(graph_file), Graph.load(tmp_path / "all")
    assert found.members.equal(before.members) and not found.scores[~before.members].any()
    model = ck.load(TOY)
    pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
    expected = ck.circuits.attribute(model, pairs, method="exact", edges=before, progress=False)
    assert found.scores.equal(expected.scores) and found.provenance["edges"] == before.size
    said = capsys.readouterr().out
    assert f"Stability is not known: that the circuit lies in {graph_file} was settled before" in said
    # An edge without a score is never taken before one that does harm.
    assert run("find", TOY, *words, "--top", before.size - 1, "--by", "signed", "--out", tmp_path / "some") == 0
    some = Graph.load(tmp_path / "some")
    assert some.members.equal(expected.top(before.size - 1, "signed").members)


def test_edges_are_not_taken_of_a_file_without_a_circuit(
    run: Run, tmp_path: Path, graph_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, graph in (("every edge", Graph.load(graph_file).whole()), ("no edge", Graph.load(graph_file).empty())):
        file = graph.save(tmp_path / "of.safetensors")
        assert run("find", TOY, "--method", "exact", "--edges-of", file, "--out", tmp_path / "out") == 2
        assert f"the circuit in {file} has {name}" in capsys.readouterr().err
    again = ["find", TOY, "--method", "exact", "--edges-of", graph_file, "--out", graph_file.parent]
    assert run(*again) == 2 and "would be written over by what is found" in capsys.readouterr().err


def test_a_file_of_pairs_is_said_to_flatter(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = ck.tasks.deductions.pairs(ck.load(TOY).tokenizer, n=1)
    row = {"clean": drawn.clean[0], "corrupt": drawn.corrupt[0], "answer": drawn.answer[0]}
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(row) + "\n")
    words = ["--pairs", file, "--share", 0.9, "--method", "eap-ig", "--steps", 2, "--controls", 0, "--no-curve"]
    assert run("find", TOY, *words, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    # Without distractors it is the KL that is measured; of one pair nothing is known of stability.
    assert "eap-ig of kl, 2 steps (left)" in said and "the very pairs that it was found on, which flatters it" in said
    assert "Stability is not known: stability draws examples anew, and needs two at least: got 1." in said
    assert not any(
        (tmp_path / "out" / f"{name}.{end}").exists() for name in ("stability", "curve") for end in ("png", "svg")
    )


def test_evaluate_writes_what_the_api_measures(
    run: Run, tmp_path: Path, graph_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--sizes", 0.2, 1.0, "--sets", 2, "--most-parts", 3, *FEW]
    assert run("evaluate", TOY, graph_file, *few, "--seed", 1, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "CPR" in said and "keeps" in said and "which flatters" not in said
    assert "nothing can be said: 10 random edges are too few" in said
    model = ck.load(TOY)
    pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4, seed=1)
    graph = Graph.load(graph_file)
    expected = ck.circuits.curve(model, graph, pairs, sizes=(0.2, 1.0), controls=2, seed=1, progress=False)
    found = Curve.load(tmp_path / "curve-signed.safetensors")
    assert torch.allclose(found.per_example, expected.per_example, atol=1e-5) and found.cpr == pytest.approx(
        expected.cpr
    )
    areas = pd.read_csv(tmp_path / "areas.csv")
    assert set(areas["by"]) == {"signed", "absolute"} and len(areas) == 16
    for name in ("curve-signed", "curve-absolute", "completeness", "minimality"):
        assert image.imread(tmp_path / f"{name}.png").shape[0] > 100
    assert len(pd.read_csv(tmp_path / "minimality.csv")) == len(Minimality.load(tmp_path).parts) == 3
    assert Graph.load(tmp_path / "evaluated.safetensors").members.equal(graph.members)
    assert Faithfulness.load(tmp_path).size == graph.size and Completeness.load(tmp_path).how.count("random") == 2


def test_evaluating_on_the_pairs_of_the_scores_is_said_to_flatter(
    run: Run, tmp_path: Path, graph_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--sizes", 0.2, 1.0, "--sets", 0, "--most-parts", 0, "--n", 2, "--controls", 0]
    assert run("evaluate", TOY, graph_file, *few, "--out", tmp_path) == 0
    assert "the pairs that the scores were made on, which flatters" in capsys.readouterr().out
    assert not (tmp_path / "minimality.csv").exists()


def test_json_of_the_reference_has_no_signs_until_they_are_told(
    run: Run, tmp_path: Path, graph_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Graph.load(graph_file).to_eap_ig(tmp_path / "graph.json", d_model=ck.load(TOY).d_model)
    few = ["--sizes", 0.2, 1.0, "--sets", 0, "--most-parts", 0, "--n", 2, "--controls", 0]
    assert run("evaluate", TOY, file, *few, "--out", tmp_path / "out") == 0
    assert "No CPR by sign: what a positive score says is not known" in capsys.readouterr().out
    assert not (tmp_path / "out" / "curve-signed.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["find", TOY, "--top", 3, "--share", 0.1], "--top, --share and --threshold each say which edges"),
        (["find", TOY, "--top", 0], "--top 0 selects nothing"),
        (["find", TOY, "--share", 2], "--share 2.0 is no share of the edges"),
        (["find", TOY, "--threshold", 1, "--select", "greedy"], "--select greedy grows to a number of edges"),
        (["find", TOY, "--steps", 0], "--steps 0 integrates nothing"),
        (["find", TOY, "--resamples", 1], "--resamples 1 has nothing to compare"),
        (["find", TOY, "--controls", -1], "--controls -1 is a count"),
        (["find", TOY, "--edges-of", "a.safetensors"], "--edges-of goes with --method exact alone"),
        (["find", TOY, "--n", 2, "--top", 1, "--method", "eap"], "none is left, since no way leads along them"),
        (["evaluate", TOY, "not-there.safetensors"], "not-there.safetensors: no such file"),
        (["evaluate", TOY, "."], "no graph.safetensors in this folder; circuitkit circuit find writes one"),
        (["evaluate", TOY, "not-there.safetensors", "--sets", -1], "--controls, --sets and --most-parts are counts"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run,
    tmp_path: Path,
    words: list[object],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("circuitkit: ")


def test_a_graph_of_another_model_is_refused(
    run: Run, tmp_path: Path, graph_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", PLANTED, graph_file, "--out", tmp_path / "out") == 2
    assert "a graph of another architecture: it has" in capsys.readouterr().err


def test_prompts_that_are_read_alike_give_no_circuit(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = ck.tasks.deductions.pairs(ck.load(TOY).tokenizer, n=1)
    row = {"clean": drawn.clean[0], "corrupt": drawn.clean[0], "answer": drawn.answer[0], "distractor": " dumpus"}
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert run("find", TOY, "--pairs", file, "--method", "eap", "--out", tmp_path / "out") == 2
    assert f"every edge scores 0 for logit_difference: {TOY} reads clean and corrupt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_circuit_that_fails_leaves_nothing_of_an_earlier_one_but_its_own_scores(run: Run, tmp_path: Path) -> None:
    for name in ("circuit.csv", "heads.png", "heads.svg", "stability.safetensors", "provenance.json", "notes.txt"):
        (tmp_path / name).write_text("of an earlier call")
    assert run("find", TOY, "--n", 2, "--top", 1, "--method", "eap", "--out", tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"graph.safetensors", "notes.txt"}
