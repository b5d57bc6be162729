"""`circuitkit patch`: each study from the shell finds what is planted, and says what a user got wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import circuitkit as ck
from circuitkit.commands.loading import load
from circuitkit.commands.patch.sites import ends_of, sets_of, site_of, written
from circuitkit.commands.patch.spans import side_of, span_of, spans_of
from circuitkit.commands.prompts import pairs_of, prompts_in
from circuitkit.model import Site, planted
from circuitkit.results import Result
from circuitkit.tasks import indirect_objects
from shell import status

PLANTED = "planted-induction-llama"
PROMPT = "a3 a4 b1 c2 d5 e6 a3"
PLANT = planted.build(PLANTED)
INDUCTION, PREVIOUS = PLANT.circuit["induction"], PLANT.circuit["previous"]
STUDIES = ("paths", "direct", "trace", "edges", "transplant", "freeze", "generate")


def patched(out: Path, *words: object) -> Result:
    """The result that `circuitkit patch` leaves; it leaves its table and provenance too."""
    assert status("patch", *words, "--out", out) == 0
    [result] = out.glob("*.safetensors")
    assert result.with_suffix(".csv").is_file()
    assert "command" in json.loads((out / "provenance.json").read_text())
    return Result.load(result)


def drawn(n: int) -> ck.Pairs:
    return pairs_of(ck.load(PLANTED), None, n)(0)


def head_of(result: Result) -> tuple[int, int]:
    best = result.top(1).iloc[0]
    return int(best["layer"]), int(best["head"])


def same(result: Result, other: Result) -> None:
    assert result.axes == other.axes
    torch.testing.assert_close(result.per_example, other.per_example, rtol=0, atol=0, equal_nan=True)


# What is found


def test_a_sweep_finds_the_planted_heads_and_equals_the_function(tmp_path):
    result = patched(tmp_path, PLANTED, "--over", "z", "--n", 8)
    top = result.top(3)
    assert set(zip(top["layer"], top["head"], strict=True)) == PLANT.heads
    assert (tmp_path / "z.png").is_file()
    same(result, ck.patching.sweep(ck.load(PLANTED), drawn(8), "z", progress=False))


def test_a_sweep_of_positions_windows_and_the_mean(tmp_path):
    words = ("--over", "attn_out", "--window", 2, "--positions", -2, -1, "--direction", "noise", "--source", "mean")
    result = patched(tmp_path, PLANTED, *words, "--n", 4, "--metric", "probability")
    other = ck.patching.sweep(
        ck.load(PLANTED),
        drawn(4),
        "attn_out",
        "probability",
        "noise",
        positions=[-2, -1],
        window=2,
        source="mean",
        progress=False,
    )
    same(result, other)
    assert result.coordinates["position"] == (-2, -1)


def test_a_sweep_of_edges(tmp_path):
    words = ("--over", "pattern", "--layers", 1, 2, "--positions", -1, "--keys", 0, 1, "--n", 4)
    result = patched(tmp_path, PLANTED, *words)
    # The one query is told in the title, and has no axis.
    assert result.axes == ("layer", "head", "key") and result.title.endswith(", from -1")
    edges = {"layers": [1, 2], "positions": [-1], "keys": [0, 1]}
    other = ck.patching.sweep(ck.load(PLANTED), drawn(4), "pattern", **edges, progress=False)
    assert torch.equal(result.per_example, other.per_example.squeeze(2))


def test_named_sets_of_sites(tmp_path):
    sets = [f"found={'+'.join(f'z.{layer}.{head}' for layer, head in sorted(PLANT.heads))}", "rest=mlp.0+mlp.1"]
    result = patched(tmp_path, PLANTED, "--set", sets[0], "--set", sets[1], "--n", 4)
    assert result.labels["set"] == ("found", "rest")
    found, rest = result.normalised.tolist()
    assert found > 0.9 and abs(rest) < 0.1
    assert result.frame["control_n"].tolist() == [20, 0] and result.frame["control_p"][0] == pytest.approx(1 / 21)
    fewer = patched(tmp_path / "fewer", PLANTED, "--set", sets[0], "--n", 4, "--controls", 3)
    assert fewer.frame["control_n"].tolist() == [3]


def test_values_from_a_prompt_and_from_a_cache(tmp_path):
    source, pairs = "Alex is a lempus. Alex is a", tmp_path / "pairs.jsonl"
    row = {"clean": "Alex is a wumpus. Alex is a", "corrupt": "Fae is a wumpus. Fae is a", "answer": " wumpus"}
    pairs.write_text(json.dumps(row | {"distractor": " lempus"}))
    cache = ck.load("deductor-5k").run([source], capture=["resid_post"]).cache.save(tmp_path / "kept.safetensors")
    words = ("deductor-5k", "--over", "resid_post", "--pairs", pairs)
    by_prompt = patched(tmp_path / "a", *words, "--from-prompt", source)
    by_cache = patched(tmp_path / "b", *words, "--from-cache", cache)
    same(by_prompt, by_cache)
    assert not torch.equal(by_prompt.values, patched(tmp_path / "c", *words).values)


def test_paths_find_what_the_previous_token_head_tells_the_induction_head(tmp_path):
    words = ("--from", "z", "embed", "--to", f"k.{INDUCTION[0]}", "logits", "--n", 8)
    result = patched(tmp_path, "paths", PLANTED, *words)
    to_keys = result.frame[result.frame["receiver"].str.startswith("k.")]
    told = to_keys.loc[to_keys["effect"].abs().idxmax()]
    assert told["sender"] == f"z.{PREVIOUS[0]}.{PREVIOUS[1]}"


def test_direct_effects_are_the_last_heads_alone(tmp_path):
    result = patched(tmp_path, "direct", PLANTED, "--n", 8, "--from", "z", "--controls", 4)
    assert set(result.frame["control_n"]) == {4}
    survive = set(result.frame.loc[result.frame["significant"], "sender"])
    last = max(layer for layer, _ in PLANT.heads)
    assert survive == {f"z.{layer}.{head}" for layer, head in PLANT.heads if layer == last}


def test_tracing_restores_the_answer_at_the_subject(tmp_path):
    words = ("--prompt", PROMPT, "--answer", " a4", "--subject", "a4", "--draws", 3)
    result = patched(tmp_path, "trace", PLANTED, *words)
    assert result.axes == ("layer", "position")
    assert result.baseline.clean_mean > 0.9 > result.baseline.corrupt_mean
    # At the last layer only the last token's state is read.
    assert int(result.values[-1].argmax()) == result.values.shape[1] - 1
    assert result.provenance["noise_seeds"] == [0, 1, 2]


def test_cutting_the_planted_edge_costs_the_answer(tmp_path):
    spans = ("--span", "source=a4", "--span", "other=c2", "--span", "last=at:-1")
    result = patched(tmp_path, "edges", PLANTED, "--prompt", PROMPT, *spans, "--per", "layer")
    best = result.top(1).iloc[0]
    assert (best["layer"], best["query"], best["key"]) == (INDUCTION[0], "last", "source")


def test_forcing_the_planted_head_elsewhere_costs_the_answer(tmp_path):
    layer, head = INDUCTION
    spans = ("--span", "source=a4", "--span", "other=c2", "--span", "last=at:-1")
    words = ("--prompt", PROMPT, *spans, "--how", "force", "--heads", f"{layer}.{head}", "--metric", "log_probability")
    result = patched(tmp_path, "edges", PLANTED, *words)
    at = result.frame.set_index(["query", "key"])["effect"]
    assert at["last", "other"] > 0.5 > abs(at["last", "source"])


def test_transplants_by_head_and_by_edge(tmp_path):
    by_head = patched(tmp_path / "heads", "transplant", PLANTED, "--n", 8)
    assert by_head.axes == ("layer", "head") and head_of(by_head)[0] == INDUCTION[0]
    layer, head = head_of(by_head)
    words = ("--layers", layer, "--heads", head, "--n", 4)
    by_edge = patched(tmp_path / "edges", "transplant", PLANTED, *words)
    assert by_edge.axes == ("query", "key")
    other = ck.attention.transplant(ck.load(PLANTED), drawn(4), layers=layer, heads=head, progress=False)
    same(by_edge, other)


def test_a_transplant_of_one_edge_is_a_map_of_heads(tmp_path):
    words = ("--span", "rules=role:rule", "--queries", -1, "--keys", "rules", "--n", 4)
    result = patched(tmp_path, "transplant", "deductor-5k", *words)
    model = ck.load("deductor-5k")
    rules = {"rules": ck.Span.of_role("rule")}
    pairs = pairs_of(model, None, 4)(0)
    other = ck.attention.transplant(model, pairs, queries=[-1], keys=rules, progress=False)
    assert result.axes == ("layer", "head") and result.title.endswith(", from -1, to rules")
    assert torch.equal(result.per_example, other.per_example[:, :, 0, 0])


def test_patterns_alone_carry_induction(tmp_path):
    result = patched(tmp_path, "freeze", PLANTED, "--n", 8)
    share = dict(zip(result.labels["set"], result.normalised.tolist(), strict=True))
    layers = {name: value for name, value in share.items() if name.startswith("layer")}
    assert share[f"all {len(layers)}"] == pytest.approx(1, abs=0.05)
    assert max(layers, key=lambda name: layers[name]) == f"layer {INDUCTION[0]}"


def test_generating_without_the_rule(tmp_path, capsys):
    prompt = "Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA:"
    spans = ("--span", "rule=Every wumpus is a dumpus", "--keys", "rule")
    assert status("patch", "generate", "deductor-130k", prompt, *spans, "--out", tmp_path) == 0
    told = json.loads((tmp_path / "generated.json").read_text())
    assert "Every wumpus is a dumpus." in told["unchanged"] and "dumpus" not in told["changed"]
    model, rule = ck.load("deductor-130k"), ck.Span.of_text("Every wumpus is a dumpus")
    cut = [ck.knockout(layer, keys=rule.positions(model, [prompt])) for layer in range(model.n_layers)]
    with model.intervene(cut):
        ids = model.generate([prompt], max_new_tokens=40, do_sample=False)[0]
    assert model.tokenizer.decode(ids, skip_special_tokens=True).endswith(told["changed"])
    assert "different" in capsys.readouterr().out


def test_generating_with_its_own_patterns_held_changes_nothing(tmp_path):
    prompt = "Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA:"
    words = ("--how", "freeze", "--source", prompt, "--max-new-tokens", 4)
    assert status("patch", "generate", "deductor-5k", prompt, *words, "--out", tmp_path) == 0
    told = json.loads((tmp_path / "generated.json").read_text())
    assert told["changed"] == told["unchanged"] != ""


# How it is written


@given(
    st.sampled_from(["z", "q", "mlp_out", "embed", "resid_post"]),
    st.integers(0, 5),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(-9, 9),
)
def test_sites_are_read_as_they_are_written(kind, layer, head, position):
    heads = head if kind in ("z", "q") else None
    site = Site(kind, layer=None if kind == "embed" else layer, head=heads, position=position)
    assert site_of(written(str(site), n_layers=9)) == site


def test_sites_as_they_are_written():
    assert site_of("z.2.1") == Site("z", layer=2, head=1) == site_of("blocks.2.attn.hook_z").at(head=1)
    assert site_of("mlp@-1") == Site("mlp_out", position=-1)
    assert site_of("pattern.0.3@-1,2") == Site("pattern", layer=0, head=3, position=-1, key=2)
    assert site_of("logits") == Site("resid_post", layer=-1)
    assert sets_of(["z.0.1+z[layer=1, head=0]"]) == {
        "z.0.1+z[layer=1, head=0]": (Site("z", layer=0, head=1), Site("z", layer=1, head=0))
    }
    assert ends_of(["embed", "z.0.1+mlp.0"]) == [
        Site("embed"),
        (Site("z", layer=0, head=1), Site("mlp_out", layer=0)),
    ]


@pytest.mark.parametrize(
    ("rule", "span"),
    [
        ("Every wumpus", ck.Span.of_text("Every wumpus")),
        ("text:wumpus[-1]", ck.Span.of_text("wumpus", -1)),
        ("text:wumpus[all]", ck.Span.of_text("wumpus", None)),
        ("role:fact", ck.Span.of_role("fact")),
        ("role:rule[0]", ck.Span.of_role("rule", 0)),
        ("speech:concept", ck.Span.of_speech("concept")),
        ("speech:concept[1]", ck.Span.of_speech("concept", 1)),
        ("at:0,-1", ck.Span.at(0, -1)),
        ("speech:concept in role:rule", ck.Span.of_speech("concept").within(ck.Span.of_role("rule"))),
    ],
)
def test_spans_as_they_are_written(rule, span):
    model = ck.load("deductor-5k")
    prompt = ["Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA:"]
    assert span_of(rule).positions(model, prompt) == span.positions(model, prompt)


def test_sides_of_edges_as_they_are_written():
    spans = spans_of(["rules=role:rule", "last=at:-1"])
    assert side_of("--keys", ["each"], spans) == "each" and side_of("--keys", ["all"], spans) == "all"
    assert side_of("--keys", ["-2", "0"], spans) == [-2, 0]
    assert list(side_of("--keys", ["last"], spans)) == ["last"]


def test_prompts_of_a_file(tmp_path):
    lines, rows = tmp_path / "a.txt", tmp_path / "b.jsonl"
    lines.write_text("one\n\ntwo\n")
    rows.write_text('"one"\n{"prompt": "two\\nlines"}\n')
    assert prompts_in(lines) == ["one", "two"] and prompts_in(rows) == ["one", "two\nlines"]
    rows.write_text('"one"\n{"text": 1}\n')
    with pytest.raises(ValueError, match="line 2: a prompt is a text"):
        prompts_in(rows)


def test_a_small_model_runs_in_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        load("deductor-5k")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_one_sentence_of_indirect_objects_is_no_cluster():
    texts = [*indirect_objects.TEMPLATES, *indirect_objects.NAMES, *indirect_objects.PLACES, *indirect_objects.OBJECTS]
    known = dict.fromkeys(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text))
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["<unk>", *known])}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<unk>")
    model = ck.Model(ck.load("deductor-5k").hf, tokenizer)
    of_all = pairs_of(model, None, 40, "indirect-objects")(0)
    of_one = pairs_of(model, None, 40, "indirect-objects", 2)(0)
    assert len(set(of_all.groups)) > 2 and of_one.groups is None
    assert len({len(prompt.split()) for prompt in of_one.clean}) == 1
    assert all(prompt.startswith("After ") for prompt in of_one.clean)


# Help and errors


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_help(study, capsys):
    assert status("patch", study, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Usage: circuitkit patch {study}" in shown and "--out" in shown and "--dtype" in shown


def test_help_names_every_study_without_importing_torch():
    code = "import sys; from circuitkit import cli; cli.app.meta(['patch', '--help'], result_action='return_value'); "
    code += "sys.exit('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert all(study in ran.stdout for study in STUDIES)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("deductor-5k", "--set", "a=foo.9"), "'foo.9' names no site: write KIND.LAYER.HEAD@POSITION"),
        (("deductor-5k", "--set", "a=z.0", "--set", "a=z.1"), "two sets are called 'a'"),
        (("deductor-5k", "--set", "a=z.0", "--over", "z"), "sets name their sites themselves"),
        (("deductor-5k", "--layers", 9), "layer 9 does not exist: deductor-5k has layers 0 to 1"),
        (("deductor-5k", "--n", 0), "--n 0 draws no pair"),
        (("deductor-5k", "--pairs", "x.jsonl", "--task", "induction"), "--pairs names prompts and --task draws them"),
        (("deductor-5k", "--template", 1), "--template names a sentence of --task indirect-objects"),
        (("deductor-5k", "--task", "greater-than"), "the tokenizer does not know every word of"),
        (("deductor-5k", "--metric", "probability_difference"), "the tokenizer does not split years"),
        (("deductor-5k", "--source", "mean", "--from-prompt", "Fae"), "--from-prompt and --from-cache each name"),
        (("deductor-5k", "--source", "mean", "--reference", "/nonexist"), "/nonexist cannot be read"),
        (("deductor-5k", "--direction", "sideways"), 'Invalid value "sideways" for --direction'),
        (("paths", "deductor-5k", "--from", "q", "--to", "logits"), "q[] cannot be among the senders"),
        (("edges", "deductor-5k"), "parameter --span requires an argument"),
        (("edges", "deductor-5k", "--span", "rule"), "a span is written NAME=TEXT"),
        (("edges", "deductor-5k", "--span", "a=role:bar"), "there is no role 'bar'; the roles are exchange"),
        (("edges", "deductor-5k", "--span", "a=at:x"), "positions are written at:0,-1, not 'at:x'"),
        (("edges", "deductor-5k", "--span", "a=zebra", "--n", 2), "row 0 has no 'zebra'"),
        (("edges", "deductor-5k", "--span", "a=at:0", "--heads", "two"), "a head is written layer.head"),
        (("transplant", "deductor-5k", "--keys", "rule"), "'rule' is no span here: name it first: --span rule="),
        (("trace", "deductor-5k", "--subject", "at:0", "--draws", 0), "--draws 0 draws no noise"),
        (("trace", "deductor-5k", "--subject", "at:0", "--answer", " a"), "--answer goes with --prompt"),
        (("freeze", "deductor-5k", "--layers", 0, "--heads", "0.1"), "give one of the two"),
        (("generate", "deductor-5k", "Fae is"), "--how knockout needs --keys"),
        (("generate", "deductor-5k", "Fae is", "--how", "freeze"), "--how freeze holds the patterns of a --source"),
    ],
)
def test_what_the_user_got_wrong_is_told_in_one_line(words, told, capsys, tmp_path):
    assert status("patch", *words, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("circuitkit: ") and told in error
    assert not (tmp_path / "out").exists()


def test_a_small_models_weights_have_no_bar(capfd):
    from circuitkit.commands.loading import load

    load("deductor-5k")
    assert "Loading weights" not in capfd.readouterr().err
