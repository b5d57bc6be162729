"""`circuitkit attention` and its verbs: what they write is what the API measures, and mistakes are told in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib import image

import circuitkit as ck
from circuitkit.tasks import prontoqa

TOY, PROMPT = "deductor-5k", "Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus."
VERB = "attention"


def pictures(out: Path) -> list[str]:
    found = sorted(path.name for path in out.glob("*.png"))
    assert all(image.imread(out / name).std() > 0.01 for name in found)
    return found


def test_the_verb_alone_captures_draws_and_scores_one_layer(run, tmp_path):
    assert run(TOY, PROMPT, "--head", 1, "--out", tmp_path) == 0
    table = pd.read_csv(tmp_path / "token_scores.csv")
    model = ck.load(TOY)
    pattern = ck.attention.capture(model, PROMPT).pattern(-1, 1)
    assert table["score"].tolist() == pytest.approx(ck.attention.token_scores(pattern).tolist(), abs=1e-5)
    assert len(pictures(tmp_path)) == 1
    kept = ck.attention.Attention.load(tmp_path)
    assert kept.layers == (model.n_layers - 1,)
    torch.testing.assert_close(kept.pattern(model.n_layers - 1, 1), pattern)


def test_the_verb_alone_keeps_all_layers_where_it_is_asked_to(run, tmp_path):
    assert run(TOY, PROMPT, "--all-layers", "--head", 0, "--out", tmp_path) == 0
    assert ck.attention.Attention.load(tmp_path).layers == tuple(range(ck.load(TOY).n_layers))
    assert len(pictures(tmp_path)) == 1


def test_scores_writes_what_the_api_measures(run, tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"{PROMPT}\nRex is not bright.\n")
    out = tmp_path / "out"
    assert run("scores", "deductor-130k", "--prompts", prompts, "--all-layers", "--heads", 2, 0, "--out", out) == 0
    scored = ck.attention.scores(
        ck.load("deductor-130k"), [PROMPT, "Rex is not bright."], range(3), [2, 0], progress=False
    )
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "token_scores.csv", keep_default_na=False), scored.frame, atol=1e-6, check_dtype=False
    )
    assert ck.attention.TokenScores.load(out).heads == (2, 0)
    names = pictures(out)
    assert "tokens-prompt1-layer0.png" in names and "edges-prompt0-layer2-head2.png" in names and len(names) == 8
    assert "prompt 0, layer 2, mean over heads:" in capsys.readouterr().out


def test_gold_is_table_3_rule_by_rule(run, tmp_path, capsys):
    rules = ("implication_elimination", "conjunction_elimination")
    assert run("gold", TOY, "--rule", *rules, "--n", 4, "--shots", 2, "--seed", 3, "--out", tmp_path) == 0
    table = pd.read_csv(tmp_path / "gold.csv")
    model = ck.load(TOY)
    for rule in rules:
        task = prontoqa.task(rule, shots=2, n=4, seed=3)
        scored = ck.attention.gold_scores(
            model, [task.prompt(item) for item in task.items], [item.gold for item in task.items], progress=False
        )
        written = table.query("rule == @rule and head == 'mean'").iloc[0]
        assert written["score"] == pytest.approx(scored.mean, abs=1e-6) and written["proofs"] == 4
        assert ck.attention.GoldScores.load(tmp_path / f"gold-{rule}.safetensors").mean == pytest.approx(scored.mean)
    assert len(pd.read_csv(tmp_path / "proofs.csv")["key"].unique()) == 8
    assert pictures(tmp_path) == [f"gold-{rule}.png" for rule in sorted(rules)]
    assert "mean over heads, with its 95 % interval over proofs" in capsys.readouterr().out


@pytest.mark.skipif("CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA does not name the published prompts")
def test_gold_reads_published_prompts(run, tmp_path):
    path = Path(os.environ["CIRCUITKIT_DATA"]) / "prontoqa" / "prompts.json"
    words = ("gold", TOY, "--prompt-file", path, "--rule", "implication_elimination", "--n", 2, "--out", tmp_path)
    assert run(*words) == 0
    rows = json.loads(path.read_text())["implication_elimination/3shot"]
    scored = ck.attention.gold_scores(ck.load(TOY), rows["prompts"][:2], rows["gold"][:2], progress=False)
    written = pd.read_csv(tmp_path / "gold.csv").query("head == 'mean'")["score"].item()
    assert written == pytest.approx(scored.mean, abs=1e-6)


def test_profile_and_agreement_write_tables(run, tmp_path, capsys):
    assert run("profile", TOY, PROMPT, "--out", tmp_path / "p") == 0
    found = ck.attention.profile(ck.load(TOY), PROMPT, ck.attention.Lexicon(), progress=False)
    written = pd.read_csv(tmp_path / "p" / "parts_of_speech.csv")
    assert written["share"].tolist() == pytest.approx(found.by_tag["share"].tolist(), abs=1e-6)
    assert pictures(tmp_path / "p") == ["parts_of_speech.png"]
    assert run("agreement", TOY, PROMPT, "--dtypes", "bfloat16", "--top", 3, "--out", tmp_path / "a") == 0
    table = pd.read_csv(tmp_path / "a" / "agreement.csv")
    assert set(table["dtype"]) == {"bfloat16"} and "top_3_overlap" in table
    assert "float32" in json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert "entropy in nats" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scores", TOY), "give a PROMPT behind MODEL"),
        (("scores", TOY, PROMPT, "--prompts", "x.txt"), "one of the two"),
        (("scores", TOY, "--prompts", "none.txt"), "none.txt cannot be read"),
        (("scores", TOY, PROMPT, "--layers", 9), "layer 9 does not exist"),
        (("scores", TOY, PROMPT, "--layers", 0, "--all-layers"), "give one of the two"),
        (("gold", TOY, "--rule", "sorcery"), "sorcery"),
        (("gold", TOY, "--n", 1, "--rule", "ModusPonens", "--shots", 120), "shots must be from 0 to 8"),
        (("profile", TOY, PROMPT, "--tagger", "en_core_web_sm"), "spaC"),
        (("agreement", TOY, "Fae is.", "--top", 9), "the shortest prompt has"),
    ],
)
def test_mistakes_are_told_in_one_line(run, tmp_path, capsys, words, said):
    assert run(*words, "--out", tmp_path) == 2
    told = capsys.readouterr().err.strip()
    assert told.splitlines()[-1].startswith("circuitkit: ") and said in told


def test_help_is_told_without_torch():
    verbs = [[], ["scores"], ["gold"], ["profile"], ["agreement"]]
    code = (
        "import sys\nfrom circuitkit import cli\n"
        f"for verb in {verbs!r}:\n  cli.app.meta(['attention', *verb, '--help'], result_action='return_value')\n"
        "sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said = " ".join(ran.stdout.split())
    assert all(f"Usage: circuitkit attention {' '.join(verb)}".strip() in said for verb in verbs)
    assert all(option in said for option in ("--all-layers", "--prompt-file", "--tagger", "--dtypes", "--first-column"))
