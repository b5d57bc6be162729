"""A run that is cut short goes on where it was, and another run is kept out of its folder."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.evaluation import Decoding, Evaluation, EvaluationError
from circuitkit.run import InterventionError
from evaluation import toys

COUNTED = ["key", "sample", "seed", "gold", "says", "said", "unparseable", "truncated", "n_tokens", "response"]


def same(one, other):
    pd.testing.assert_frame_equal(one.frame[COUNTED], other.frame[COUNTED])


class BrokenOffError(Exception):
    pass


def broken_off(after):
    """A judge that ends the run once it has judged so many."""
    judged = []

    def says(item, said):
        judged.append(item.key)
        if len(judged) > after:
            raise BrokenOffError
        return toys.says(item, said)

    return replace(toys.task(), judges={"says": says})


@pytest.mark.parametrize("after", [0, 1, 6])
def test_a_run_that_was_cut_short_goes_on(tmp_path, after):
    model = toys.model_of("llama")
    with pytest.raises(BrokenOffError):
        ck.evaluate(model, broken_off(after), out=tmp_path, batch_size=3, progress=False)
    kept = (tmp_path / "responses.jsonl").read_text().splitlines()
    assert len(kept) == after
    with pytest.raises(EvaluationError, match="has not ended"):
        Evaluation.load(tmp_path)
    found = ck.evaluate(model, toys.task(), out=tmp_path, batch_size=4, progress=False)
    assert (tmp_path / "responses.jsonl").read_text().splitlines()[:after] == kept
    same(found, ck.evaluate(model, toys.task(), progress=False))
    same(found, Evaluation.load(tmp_path))


def test_a_broken_last_line_is_asked_anew(tmp_path):
    model, task = toys.model_of("llama"), toys.task(4)
    whole = ck.evaluate(model, task, out=tmp_path, progress=False)
    path = tmp_path / "responses.jsonl"
    text = path.read_text()
    for cut in (1, 20, len(text.splitlines()[-1])):
        path.write_text(text[:-cut])
        same(whole, ck.evaluate(model, task, out=tmp_path, progress=False))
        assert len(path.read_text().splitlines()) == 4


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    model, task = toys.model_of("llama"), toys.task(4)
    ck.evaluate(model, task, out=tmp_path, progress=False)
    path = tmp_path / "responses.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:9] + "\n" + lines[2])
    with pytest.raises(EvaluationError, match="line 2"):
        ck.evaluate(model, task, out=tmp_path, progress=False)


def test_more_of_the_same_is_added(tmp_path):
    model, task, drawn = toys.model_of("llama"), toys.task(6), Decoding(temperature=0.7)
    ck.evaluate(model, task, decoding=drawn, limit=3, out=tmp_path, progress=False)
    ck.evaluate(model, task, decoding=drawn, samples=2, seeds=(0, 1), out=tmp_path, progress=False)
    assert len((tmp_path / "responses.jsonl").read_text().splitlines()) == 24
    few = ck.evaluate(model, task, decoding=drawn, limit=3, out=tmp_path, progress=False)
    assert len(few.frame) == 3 and len(Evaluation.load(tmp_path).frame) == 3


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"decoding": "paper"}, "decoding"),
        ({"max_new_tokens": 5}, "max_new_tokens"),
        ({"interventions": [ck.zero("z[layer=0]")]}, "interventions"),
        ({"task": replace(toys.task(4), name="others")}, "task"),
        ({"task": toys.task(4, stop=("w9",))}, "stop"),
        ({"task": toys.task(4, seed=1)}, "another prompt of item 'item "),
        ({"model": toys.model_of("qwen2")}, "model"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(tmp_path, changed, named):
    settings = {"model": toys.model_of("llama"), "task": toys.task(4), "interventions": ()}
    ck.evaluate(**settings, out=tmp_path, progress=False)
    with pytest.raises(EvaluationError, match=named):
        ck.evaluate(**(settings | changed), out=tmp_path, progress=False)


def test_other_weights_and_other_vectors_are_refused(tmp_path):
    model, task = toys.model_of("phi3"), toys.task(3)
    steer = ck.add("resid_post[layer=1]", torch.ones(model.d_model))
    ck.evaluate(model, task, [steer], out=tmp_path, progress=False)
    with pytest.raises(EvaluationError, match="interventions was"):
        ck.evaluate(model, task, [ck.add("resid_post[layer=1]", 2 * torch.ones(model.d_model))], out=tmp_path)
    with pytest.raises(EvaluationError, match="held on the model"), model.intervene([steer]):
        ck.evaluate(model, task, [steer], out=tmp_path, progress=False)
    weight = model.hf.lm_head.weight
    with torch.no_grad():
        weight[0, 0] += 1
    try:
        with pytest.raises(EvaluationError, match="weights"):
            ck.evaluate(model, task, [steer], out=tmp_path, progress=False)
    finally:
        with torch.no_grad():
            weight[0, 0] -= 1


def test_other_end_tokens_are_refused(tmp_path):
    hf, tokenizer = architectures.build("llama")
    ck.evaluate(ck.Model(hf, tokenizer, name="llama"), toys.task(2), out=tmp_path, progress=False)
    hf.generation_config.eos_token_id = [2, 5]
    with pytest.raises(EvaluationError, match="end tokens was"):
        ck.evaluate(ck.Model(hf, tokenizer, name="llama"), toys.task(2), out=tmp_path, progress=False)


def test_a_folder_that_another_process_writes_is_refused(tmp_path):
    from circuitkit.evaluation.responses import Keeping

    path = tmp_path / "responses.jsonl"
    with Keeping(path), pytest.raises(EvaluationError, match="another process"), Keeping(path):
        pass


def test_saved_and_loaded_it_is_the_same(tmp_path):
    found = ck.evaluate(toys.model_of("llama"), toys.task(5), progress=False)
    again = Evaluation.load(found.save(tmp_path / "saved"))
    same(found, again)
    assert found.provenance == again.provenance and found.accuracy == again.accuracy
    assert (tmp_path / "saved" / "table.csv").exists()
    head = tmp_path / "saved" / "evaluation.json"
    head.write_text(head.read_text()[:-30])
    with pytest.raises(EvaluationError, match="cut short"):
        Evaluation.load(tmp_path / "saved")
    with pytest.raises(EvaluationError, match="not there"):
        Evaluation.load(tmp_path / "nothing")


def test_an_intervention_that_never_took_place_stays_an_error(tmp_path):
    model, task = toys.model_of("llama"), toys.task(3, longest=4)
    for _ in range(2):
        with pytest.raises(InterventionError, match="never took place"):
            ck.evaluate(model, task, [ck.zero("resid_post[layer=1, position=60]")], out=tmp_path, progress=False)


def test_what_took_place_before_a_run_was_cut_short_counts(tmp_path):
    # Position 9 is in the longest prompts alone, which come first; what is left has none.
    model, task = toys.model_of("llama"), toys.task(11)
    held = [ck.add("resid_post[layer=1, position=9]", torch.ones(model.d_model), during="prompt")]
    whole = ck.evaluate(model, task, held, batch_size=2, progress=False)
    ck.evaluate(model, task, held, batch_size=2, out=tmp_path, progress=False)
    path = tmp_path / "responses.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    assert len(json.loads(lines[-1])["prompt"].split()) < 9
    path.write_text("".join(lines[:-1]))
    same(whole, ck.evaluate(model, task, held, batch_size=2, out=tmp_path, progress=False))


PROGRAM = """
import sys, torch
torch.set_num_threads(1)
import circuitkit as ck
task = ck.tasks.prontoqa.task("implication_elimination", hops=2, shots=0, n=60)
ck.evaluate(ck.load("deductor-20k"), task, out=sys.argv[1], batch_size=4, progress=False)
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_table(tmp_path):
    out = tmp_path / "killed"
    path = out / "responses.jsonl"
    for wanted in (3, 17, 40):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(out)])
        while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < wanted):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = path.read_text().splitlines()
    subprocess.run([sys.executable, "-c", PROGRAM, str(out)], check=True)
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "whole")], check=True)
    one, other = (Evaluation.load(tmp_path / name).frame.drop(columns="seconds") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(one, other)
    lines = path.read_text().splitlines()
    whole = [line for line in before if _is_json(line)]
    assert lines[: len(whole)] == whole and len(lines) == 60


def _is_json(line):
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
