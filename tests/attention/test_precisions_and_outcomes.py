"""Scores in several precisions, and scores beside what a model gets right."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import architectures
import circuitkit as ck


def test_agreement_is_that_of_scores_of_the_model_in_each_precision():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    prompts = architectures.prompts("left_padded", length=40)
    found = ck.attention.agreement(
        model, prompts.input_ids, [1, 2], top=5, attention_mask=prompts.attention_mask, progress=False
    )
    assert set(found.frame["dtype"]) == {"float16", "bfloat16"}
    rough, _ = architectures.build("llama")
    halved = ck.attention.scores(
        ck.Model(rough.bfloat16()), prompts.input_ids, [1, 2], attention_mask=prompts.attention_mask, progress=False
    )
    exact = ck.attention.scores(model, prompts.input_ids, [1, 2], attention_mask=prompts.attention_mask, progress=False)
    row = found.frame.query("dtype == 'bfloat16' and layer == 2 and head == 3 and prompt == 1").iloc[0]
    a, b = exact.of(1, 2, 3).numpy(), halved.of(1, 2, 3).numpy()
    assert row["rank_correlation"] == pytest.approx(stats.spearmanr(a, b).statistic)
    assert row["largest_difference"] == pytest.approx(np.abs(a - b).max())
    assert row["overlap"] == len(set(np.argsort(-a)[:5]) & set(np.argsort(-b)[:5])) / 5
    table = found.table.groupby("dtype")["largest_difference"].max()
    assert 0 < table["float16"] < table["bfloat16"]
    assert next(hf.parameters()).dtype == torch.float32


def test_a_precision_that_overflows_is_named():
    hf, tokenizer = architectures.build("llama")
    hf.model.layers[0].mlp.down_proj.weight.mul_(1e5)
    model = ck.Model(hf, tokenizer)
    with pytest.raises(ValueError, match=r"float16: the logits of row 0 hold NaN.*leave float16 out"):
        ck.attention.agreement(model, [list(range(5, 25))], dtypes=["float16"], progress=False)
    with pytest.raises(ValueError, match="'int8' is no precision"):
        ck.attention.agreement(model, [[5, 6, 7]], dtypes=["int8"], progress=False)
    for dtypes in ([], ["float32"]):
        with pytest.raises(ValueError, match="no precision is held against float32"):
            ck.attention.agreement(model, [[5, 6, 7]], dtypes=dtypes, top=2, progress=False)
    with pytest.raises(ValueError, match="the shortest prompt has 3"):
        ck.attention.agreement(model, [[5, 6, 7]], top=4, progress=False)


def test_right_items_against_wrong_ones_head_by_head():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(40, 2, 3, generator=generator)
    right = torch.arange(40) % 3 > 0
    values[right, 1, 2] += 0.7
    values[:, 0, 1] = torch.nan
    table = ck.attention.by_outcome(values, right, layers=[4, 5], heads=[0, 1, 7], draws=2000)
    assert len(table) == 5 and (table["n_right"] == 26).all()
    found = table.query("p_corrected < 0.05")
    assert found[["layer", "head"]].values.tolist() == [[5, 7]]
    row = found.iloc[0]
    assert row["low"] < row["difference"] < row["high"]
    assert row["difference"] == pytest.approx(float(values[right, 1, 2].mean() - values[~right, 1, 2].mean()))
    with pytest.raises(ValueError, match="two examples at least in each group"):
        ck.attention.by_outcome(values, [True] * 40)


def test_within_families_is_told_apart_from_over_all():
    rng = np.random.default_rng(0)
    rows = [
        {"family": family, "score": base + rng.normal() * 0.01, "accuracy": base + rng.normal() * 0.01}
        for family, base in (("a", 0.0), ("b", 1.0), ("c", 2.0))
        for _ in range(4)
    ]
    table = ck.attention.against_accuracy(pd.DataFrame(rows)).set_index("models_of")
    assert table.loc["all", "correlation"] > 0.8 and table.loc["all", "p"] < 0.01
    assert table.loc["within families", "p"] > 0.05
    group = pd.DataFrame(rows).query("family == 'a'")
    assert table.loc["a", "correlation"] == pytest.approx(stats.spearmanr(group["score"], group["accuracy"]).statistic)
    # Of 24 orders of four models, two are as far apart as can be.
    assert table.loc["a", "least_p"] == pytest.approx(2 / 24)


def test_a_family_whose_accuracies_are_alike_has_no_correlation():
    table = pd.DataFrame(
        {"family": list("aaabbb"), "score": [1.0, 2, 3, 4, 5, 6], "accuracy": [10.0, 20, 30, 100, 100, 100]}
    )
    found = ck.attention.against_accuracy(table).set_index("models_of")
    assert found.loc["b", ["correlation", "p", "least_p"]].isna().all() and found.loc["b", "models"] == 3
    assert found.loc["within families", "correlation"] == pytest.approx(1.0)
    assert found.loc["within families", "models"] == 3
    with pytest.raises(ValueError, match="nothing can be said within one"):
        ck.attention.against_accuracy(table.query("family == 'b'"))


def test_tables_that_say_nothing_within_a_family_are_refused():
    table = pd.DataFrame({"family": ["a", "a", "b"], "score": [1.0, 2.0, 3.0], "accuracy": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="no family has three models"):
        ck.attention.against_accuracy(table)
    with pytest.raises(ValueError, match="no column 'size'"):
        ck.attention.against_accuracy(table, score="size")
    with pytest.raises(ValueError, match="no score or no accuracy"):
        ck.attention.against_accuracy(table.assign(score=[1.0, np.nan, 2.0]))
