"""The causal tests of attention: what they mask and force is what they say, and the study runs whole and goes on."""

import json

import attention_causality
import numpy as np
import pandas as pd
import pytest
import torch
from causality import cells, tables

import circuitkit as ck
from circuitkit import attention


def asked(n: int = 6) -> cells.Questions:
    return cells.Questions("implication_elimination", 1, n, "irrelevant", 3, 0, 48)


def test_masked_proofs_are_those_of_generating_one_by_one_with_the_tokens_cut():
    model, task = ck.load("deductor-60k"), asked().task()
    rows = [(1 + number % 3, 5) for number in range(len(task.items))]
    found = ck.evaluate(model, task, cells.masked(model, task.items, rows), progress=False)
    clean = ck.evaluate(model, task, progress=False)
    for item, places, response in zip(task.items, rows, found.responses, strict=True):
        ids = model.tokens(task.prompt(item)).ids
        with model.intervene([ck.knockout(layer, keys=places) for layer in range(model.n_layers)]):
            written = model.generate(ids, max_new_tokens=48, do_sample=False)[0, ids.shape[1] :]
        assert response.text == model.tokenizer.decode(written, skip_special_tokens=True)
    assert [each.text for each in found.responses] != [each.text for each in clean.responses]


def test_steps_are_the_gold_tokens_that_were_said_before():
    model, task = ck.load("deductor-5k"), asked().task()
    steps = list(cells.steps_of(model, task, 0))
    assert {step.proof for step in steps} == set(range(6))
    for step in steps:
        assert step.right == tuple(at for at, token in enumerate(step.ids) if token == step.gold)
        assert set(step.right) | set(step.others) | {0} == set(range(len(step.ids)))
    first = [step for step in steps if step.proof == 0]
    whole = model.tokens(f"{task.prompt(task.items[0])} {task.items[0].gold}").ids[0].tolist()
    prompt = len(model.tokens(task.prompt(task.items[0])).ids[0])
    said_before = [at for at in range(prompt, len(whole)) if whole[at] in whole[:at]]
    assert [len(step.ids) for step in first] == said_before


def test_what_is_predicted_is_what_transformers_says_token_by_token():
    model, task = ck.load("deductor-20k"), asked(3).task()
    steps = list(cells.steps_of(model, task, 0))
    hit, log_p = cells.predicted(model, steps, range(model.n_layers), None, 1.0)
    for step, right, value in zip(steps, hit, log_p, strict=True):
        with torch.no_grad():
            logits = model.hf(torch.tensor([step.ids])).logits[0, -1]
        assert right == (int(logits.argmax()) == step.gold)
        assert value == pytest.approx(float(logits.log_softmax(-1)[step.gold]), abs=1e-4)


def test_forced_is_the_last_token_alone_of_each_row_onto_its_own_tokens():
    model, task = ck.load("deductor-20k"), asked(2).task()
    steps = list(cells.steps_of(model, task, 0))[::5]
    _, log_p = cells.predicted(model, steps, [1], [step.right for step in steps], 0.5)
    for step, value in zip(steps, log_p, strict=True):
        forced = attention.force(1, queries=len(step.ids) - 1, keys=list(step.right), weight=0.5)
        logits = model.run([list(step.ids)], [forced], logits_at=-1).logits[0]
        assert value == pytest.approx(float(logits.log_softmax(-1)[step.gold]), abs=1e-4)


def test_tables_pair_item_by_item_and_count_what_comes_right_and_goes_wrong():
    conditions = [
        {"kind": "not forced", "correct": "1100", "log_p": [-1.0, -1.0, -2.0, -2.0]},
        {"kind": "chosen", "correct": "1011", "log_p": [-1.0, -2.0, -0.5, -0.5]},
        *({"kind": kind, "correct": bits, "log_p": [-2.0] * 4} for kind in ("random",) for bits in ("1100", "1000")),
        {"kind": "same part of speech", "correct": "1100", "log_p": [-2.0] * 4},
    ]
    cell = {
        "model": "m",
        "layer": 0,
        "weight": 1.0,
        "conditions": json.dumps(conditions),
        "proofs": json.dumps([0, 0, 1, 1]),
        "matched": "1111",
    }
    table = tables.forcing_table(pd.DataFrame([cell]), seed=0).set_index(["steps", "forced_onto"])
    right, random = table.loc[("all", "right")], table.loc[("all", "random")]
    assert (right["gain"], right["fixed"], right["broken"]) == (0.25, 1.0, 0.5)
    assert (random["gain"], random["right_gains_more"]) == (-0.125, 0.375)
    assert right["gain_nats"] == pytest.approx(0.5)
    masked = {
        "model": "m",
        "tokens": "all",
        "k": 2,
        "n": 4,
        "headline": "1111",
        "conditions": json.dumps(
            [
                {"kind": "chosen", "overlap": 1.0, "headline": "0001", "strict": "0000", "sound": "0000"},
                {"kind": "random", "overlap": 0.0, "headline": "1111", "strict": "0000", "sound": "0000"},
                {"kind": "random", "overlap": 0.0, "headline": "1101", "strict": "0000", "sound": "0000"},
            ]
        ),
        "share_received": 0.5,
        "chosen_kinds": "{}",
    }
    table = tables.masking_table(pd.DataFrame([masked]), seed=0).set_index("masked")
    assert (table.loc["chosen", "loss"], table.loc["random", "loss"]) == (0.75, 0.125)
    assert (table.loc["random", "chosen_costs_more"], table.loc["chosen", "p_mcnemar"]) == (0.625, 0.25)
    assert np.isnan(table.loc["random", "p_mcnemar"])
    small, large = sorted(table["loss_p"])
    assert sorted(table["loss_p_corrected"]) == [min(1, 2 * small), min(1, max(2 * small, large))]
    assert table.loc["chosen", "p_mcnemar_corrected"] == 0.25


@pytest.mark.slow
def test_the_study_runs_whole_and_goes_on_where_it_was(monkeypatch, tmp_path, capsys):
    settings = ["--out", str(tmp_path), "--models", "deductor-20k", "deductor-130k", "--n", "12", "--forced-n", "3"]
    settings += ["--k", "2", "--draws", "1", "--weights", "0.5"]
    attention_causality.app(settings, result_action="return_value")
    judged = pd.read_csv(tmp_path / "models.csv").set_index("model")
    assert judged["succeeds"].to_dict() == {"deductor-20k": False, "deductor-130k": True}
    masking, forcing = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("masking", "forcing"))
    assert set(masking["masked"]) == {"chosen", "random", "same part of speech"}
    assert set(masking["tokens"]) == {"all", "content"}
    assert masking["model"].unique().tolist() == ["deductor-130k"]
    assert forcing["model"].unique().tolist() == ["deductor-20k"]
    assert set(forcing["layer"]) == {"0", "1", "all"}
    assert all((tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in ("masking", "forcing"))
    assert json.loads((tmp_path / "provenance.json").read_text())["questions"]["n"] == 12

    def never(*args: object, **more: object) -> None:
        raise AssertionError("what is finished is not run again")

    monkeypatch.setattr(ck.Model, "run", never)
    written = (tmp_path / "masking.csv").read_bytes()
    attention_causality.app(settings, result_action="return_value")
    assert (tmp_path / "masking.csv").read_bytes() == written
    capsys.readouterr()
