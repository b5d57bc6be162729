"""What was found, in sentences: a study's own first, and then those of each result."""

import torch

import circuitkit as ck
from circuitkit import attention
from circuitkit.report import origin, read, sentences
from circuitkit.report.contents import Contents
from circuitkit.results import Baseline, Result
from report.studies import ORIGIN, result, study, table, write_json


def test_a_text_is_read_line_by_line_and_markdown_item_by_item(tmp_path):
    table(tmp_path)
    (tmp_path / "findings.txt").write_text("One thing.\nAnother.\n")
    (tmp_path / "report.md").write_text(
        "# Found\n\n- A **bold**\n  item.\n- `b`\n\n| a |\n|---|\n![x](y.png)\nEnd of it.\n"
    )
    report = read(tmp_path, progress=False)
    assert report.sentences[:5] == ("One thing.", "Another.", "A **bold** item.", "`b`", "End of it.")
    assert "<h4>Found</h4>" in report.html
    assert "<li>A <strong>bold</strong> item.</li>" in report.html and "<li><code>b</code></li>" in report.html


def test_somebody_elses_text_is_shown_and_is_no_finding(tmp_path):
    table(tmp_path)
    (tmp_path / "log.txt").write_text("step 1\n" * 300)
    report = read(tmp_path, progress=False)
    assert report.sentences == ()
    assert report.sections[-1].title == "log.txt"
    assert len(report.sections[-1].table) == 200 and "first 200 lines" in report.sections[-1].notes[0]


def test_without_a_text_the_sentences_of_the_provenance_are_told(tmp_path):
    table(tmp_path, sentences=["All was found."])
    assert read(tmp_path, progress=False).sentences[0] == "All was found."


def test_a_result_says_its_baseline_and_what_survives_beside_its_controls():
    per_example = torch.zeros(1, 3, 8)
    per_example[0, 1] = torch.linspace(3, 5, 8)
    heads = Result(
        per_example, ("layer", "head"), Baseline(torch.full((8,), 5.0), torch.zeros(8)), "denoise", "kl", "nats"
    )
    assert sentences.of(heads) == (
        "A study: the kl is 5 nats in the clean run and 0 in the corrupt (mean of 8 examples).",
        "1 of 3 cells survives correction over all of them: layer 0 head 1 (effect 4, 80% of the whole, 95 % interval "
        "3.54 to 4.43, the other heads of its layer 0, p = 0.0078).",
    )


def test_a_result_says_that_nothing_survives_or_can_be_tested():
    lost = Result(torch.zeros(2, 8), ("layer",), Baseline(torch.ones(8)), "ablate", "kl")
    same = Result(torch.ones(2, 8), ("layer",), Baseline(torch.ones(8)), "ablate", "kl")
    one = Result(torch.zeros(2, 1), ("layer",), Baseline(torch.ones(1)), "ablate", "kl")
    assert "2 of 2 cells survive correction" in sentences.of(lost)[-1]
    assert sentences.of(same)[-1] == "None of 2 cells survives correction over all of them."
    assert sentences.of(one)[-1].startswith("Nothing is tested: one example gives no interval")


def test_what_has_no_sentences_of_its_own_says_nothing():
    assert sentences.of({"a": 1}) == ()


def test_commands_name_the_program_and_not_where_it_was_installed(tmp_path):
    table(tmp_path, seed=0)
    table(tmp_path / "script", command="experiments/who_reasons.py --out x")
    assert origin.commands([Contents.of(tmp_path)]) == [
        "circuitkit patch deductor-5k --out 'my study'",
        "python experiments/who_reasons.py --out x",
    ]


def test_commands_stand_in_the_order_in_which_they_were_run_without_those_that_run_nothing_again(tmp_path):
    made = {
        "a": ("circuitkit b", 3),
        "b": ("circuitkit a", 1),
        "c": ("-c", 0),
        "d": ("/x/ipykernel_launcher.py -f y", 2),
    }
    for name, (command, minute) in made.items():
        table(tmp_path / name, command=command, time=f"2026-01-01T00:00:0{minute}+00:00")
    assert origin.commands([Contents.of(tmp_path)]) == ["circuitkit a", "circuitkit b"]


def test_a_folder_of_several_studies_is_called_by_what_they_did_to_which_models(tmp_path):
    for name, model in (("x", "deductor-5k"), ("y", "deductor-20k"), ("z", "deductor-5k")):
        table(tmp_path / "same" / name, model=model)
    table(tmp_path / "verbs" / "a", command="circuitkit ablate grow m")
    table(tmp_path / "verbs" / "b", command="circuitkit ablate effects m")
    table(tmp_path / "all", command="circuitkit eval m")
    titles = [origin.title(Contents.of(tmp_path / name)) for name in ("same", "verbs", "all", "")]
    assert titles[:3] == ["Patching: deductor-5k, deductor-20k", "Ablation: deductor-5k", "Evaluation: deductor-5k"]
    assert titles[3] == f"{tmp_path.name}: deductor-5k, deductor-20k"


def test_several_provenances_in_one_file_are_all_told(tmp_path):
    table(tmp_path)
    write_json(tmp_path / "provenance.json", {"float32": ORIGIN, "float16": ORIGIN | {"seed": 7}})
    contents = Contents.of(tmp_path)
    assert ("seed", "7") in origin.settings(contents)
    assert origin.versions([contents]) == [("circuitkit", "0.1.0"), ("torch", "2.13.0")]


def halved(n):
    if n == 2:
        raise ValueError("two <b>cannot</b> be halved")
    return {"half": n / 2, "study": result()}


def test_a_sweep_shows_its_cells_their_results_and_how_others_failed(tmp_path):
    ck.sweep([(halved, {"n": 1}), (halved, {"n": 2})], out=tmp_path, progress=False)
    report = read(tmp_path, progress=False)
    assert [each.title for each in report.sections] == ["Cells of the sweep", "Cells that failed", "n=1: study"]
    assert report.sentences[0] == "1 of 2 cells are done, 1 failed."
    assert "two &lt;b&gt;cannot&lt;/b&gt; be halved" in report.html
    assert report.html == read(tmp_path, progress=False).html


def multiplied(n, m):
    return result(title=f"{n} times {m}")


def test_a_sweeps_results_are_called_by_what_tells_them_apart(tmp_path):
    ck.sweep([(multiplied, {"n": n, "m": 5}) for n in (1, 3)], out=tmp_path / "two", progress=False)
    ck.sweep([(multiplied, {"m": 5, "n": 1})], out=tmp_path / "one", progress=False)
    found = {name: [each.title for each in read(tmp_path / name, progress=False).sections] for name in ("one", "two")}
    assert found == {"two": ["Cells of the sweep", "n=1", "n=3"], "one": ["Cells of the sweep", "n=1"]}


def test_settings_that_nest_are_told_one_by_one_and_times_to_the_minute(tmp_path):
    told = {"b": [{"name": "post", "revision": None}], "a": [{"name": "x"}, {"name": "y"}]}
    table(tmp_path, **told, time="2026-01-01T23:59:58+01:00")
    contents = Contents.of(tmp_path)
    assert {("b.name", "post"), ("a.0.name", "x"), ("a.1.name", "y")} <= set(origin.settings(contents))
    assert origin.times([contents]) == ["2026-01-01 22:59"]


def test_a_sentence_that_a_result_says_ends_and_leaves_a_models_name_as_it_is():
    class Curve:
        def __str__(self):
            return "deductor-5k: 3 edges\nkept by few\nall kept."

    assert sentences.of(Curve()) == ("deductor-5k: 3 edges.", "Kept by few.", "All kept.")


def test_attention_by_part_of_speech_and_what_is_written_on_are_told_in_words(tmp_path):
    (tmp_path / "heads.csv").write_text(
        "layer,head,entropy,function_words,function_words_uniform\n1,0,1.126,0.4,0.375\n1,1,1.469,0.5,0.375\n"
    )
    write_json(tmp_path / "generated.json", {"prompt": "a", "unchanged": " b.", "changed": ""})
    shares, spread, texts = read(tmp_path, progress=False).sentences
    assert "45.0% falls on function words on average, beside 37.5%" in shares
    assert "50.0% in L1H1, which has most, and 40.0% in L1H0" in shares
    assert "L1H1 is spread most widely (entropy 1.47 nats), that of L1H0 least (1.13)" in spread
    assert texts == "With the change the model writes on otherwise: nothing, where it writes “b.” without."
    contents = Contents.of(tmp_path)
    assert origin.asked(contents) == ["Does the model write on otherwise under the change?"]


def test_scores_of_attention_are_told_in_words():
    model = ck.load("deductor-5k")
    prompt = "Every wumpus is a dumpus. Fae is a wumpus."
    scores = attention.scores(model, prompt, progress=False)
    (told,) = sentences.of(scores)
    rows = scores.frame[scores.frame["layer"] == scores.layers[-1]].groupby(["position", "token"])["score"].mean()
    position, token = rows.idxmax()
    assert f"have {token.strip()!r} ({position}) {rows.max():.2f}," in told
    gold = attention.gold_scores(model, [prompt] * 2, [" Fae is a dumpus."] * 2, progress=False)
    (told,) = sentences.of(gold)
    assert f"score of {gold.mean:.2f} (95 % interval" in told and "2 proofs" in told


def test_a_study_s_own_question_stands_for_those_of_its_steps(tmp_path):
    study(tmp_path)
    write_json(tmp_path / "provenance.json", ORIGIN | {"command": "experiments/thresholds.py --out x"})
    assert origin.asked(Contents.of(tmp_path)) == ["Is there a size from which models reason?"]
