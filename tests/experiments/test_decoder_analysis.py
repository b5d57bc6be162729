"""Architecture and data are told apart: against planted effects, statsmodels, and chance."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from decoders.analysis import (
    architecture_contrasts,
    data_contrasts,
    fitted,
    outcome,
    variance_shares,
    varies,
)
from decoders.findings import said_in_short, said_of_architecture, said_of_data, said_of_rates, said_of_variance
from decoders.study import Plan
from scipy import stats

NAMES, AMOUNTS, SEEDS = ("Llama", "GPT-2", "Gemma 2", "OpenELM"), (1_000, 4_000, 16_000), (0, 1, 2)
ASKED = 10_000


def study(
    architecture: dict[str, float] | None = None,
    data: dict[int, float] | None = None,
    seeds: tuple[float, ...] = (0.0, 0.0, 0.0),
    luck: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Models whose logits are planted effects plus normal luck."""
    random = np.random.default_rng(seed)
    rows = []
    for name, amount, which in itertools.product(NAMES, AMOUNTS, SEEDS):
        logit = (architecture or {}).get(name, 0.0) + (data or {}).get(amount, 0.0) + seeds[which]
        logit += luck * random.standard_normal()
        hits = round(ASKED / (1 + np.exp(-logit)))
        told = {"architecture": name, "questions": amount, "seed": which, "asked": ASKED}
        rows.append({**told, "headline": hits, "strict": hits // 2, "validation_loss": float(np.exp(-logit))})
    # In no particular order, which must not matter.
    return pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)


def share(models: pd.DataFrame, source: str) -> pd.Series:
    return variance_shares(models, "headline", draws=500).set_index("source").loc[source]


def test_sums_of_squares_are_those_of_statsmodels() -> None:
    models = study({"OpenELM": -1.0}, {16_000: 0.7}, seeds=(0.0, 0.2, 0.1), luck=0.4)
    formula = "y ~ C(architecture) * C(questions) + C(seed)"
    table = sm.stats.anova_lm(smf.ols(formula, models.assign(y=outcome(models, "headline"))).fit())
    shares = variance_shares(models, "headline", draws=50)
    expected = (table["sum_sq"] / table["sum_sq"].sum()).rename(lambda name: name.replace("C(", "").replace(")", ""))
    order = ["architecture", "questions", "architecture:questions", "seed", "Residual"]
    assert np.allclose(shares["share"], expected[order], atol=1e-9)
    assert shares["share"].sum() == pytest.approx(1)


def test_omega_squared_is_that_of_its_definition() -> None:
    models = study({"OpenELM": -1.0}, {16_000: 0.7}, luck=0.4)
    table = sm.stats.anova_lm(fitted(models, "headline"))
    chance = table.loc["Residual", "sum_sq"] / table.loc["Residual", "df"]
    row = table.loc["C(questions)"]
    expected = (row["sum_sq"] - row["df"] * chance) / (table["sum_sq"].sum() + chance)
    assert share(models, "data")["corrected"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("planted", "source"),
    [
        ({"architecture": {"OpenELM": -1.5}}, "architecture"),
        ({"data": {1_000: -1.0, 16_000: 1.0}}, "data"),
        ({"seeds": (0.0, 1.0, -1.0)}, "seed"),
        ({"luck": 0.5}, "left over"),
    ],
)
def test_what_was_planted_takes_the_variance(planted: dict, source: str) -> None:
    found = share(study(**planted), source)
    # Luck takes a little less: what chance gives the others is theirs.
    assert found["corrected"] > (0.75 if source == "left over" else 0.9)
    assert found["low"] <= found["corrected"] <= found["high"]


def test_an_interaction_is_told_from_its_parts() -> None:
    models = study(luck=0.02)
    crossed = (models["architecture"] == "OpenELM") & (models["questions"] == 1_000)
    models.loc[crossed, "headline"] //= 3
    shares = variance_shares(models, "headline", draws=200).set_index("source")
    # One cell of twelve: by the sums of squares of a single deviating cell, 6 parts of 11 are interaction.
    assert shares.loc["architecture x data", "share"] == pytest.approx(6 / 11, abs=0.03)


def test_shuffling_finds_what_the_f_test_finds() -> None:
    real, none = study({"OpenELM": -1.0}, luck=0.3), study(luck=0.3)
    assert share(real, "architecture")["p_shuffled"] < 0.01 and share(real, "data")["p_shuffled"] > 0.05
    assert share(none, "architecture")["p_shuffled"] == pytest.approx(share(none, "architecture")["p"], abs=0.15)


def test_only_the_planted_architecture_differs() -> None:
    contrasts = architecture_contrasts(study({"OpenELM": -1.5}), "headline")
    assert len(contrasts) == 18
    involved = contrasts[["first", "second"]].eq("OpenELM").any(axis=1)
    assert (contrasts["survives"] == involved).all()
    assert contrasts.loc[involved, "difference"].abs().to_numpy() == pytest.approx(1.5, abs=0.2)
    assert (contrasts["first_questions"] == contrasts["second_questions"]).all()


def test_contrasts_are_pooled_t_tests_of_the_model() -> None:
    models = study({"GPT-2": 0.3}, luck=0.3)
    fit = fitted(models, "headline")
    row = architecture_contrasts(models, "headline").iloc[0]
    cells = [
        outcome(models, "headline")[(models["architecture"] == row[side]) & (models["questions"] == 1_000)].mean()
        for side in ("first", "second")
    ]
    error = (fit.mse_resid * 2 / 3) ** 0.5
    assert row["difference"] == pytest.approx(cells[0] - cells[1])
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(row["difference"]) / error, 22))
    assert row["high"] - row["difference"] == pytest.approx(error * stats.t.ppf(1 - 0.025 / 18, 22))


def test_data_contrasts_go_up_the_amounts() -> None:
    contrasts = data_contrasts(study(data={1_000: -1.0, 16_000: 1.0}), "headline")
    steps = set(contrasts[["second_questions", "first_questions"]].itertuples(index=False, name=None))
    assert steps == {(1_000, 4_000), (4_000, 16_000), (1_000, 16_000)} and len(contrasts) == 12
    assert contrasts["survives"].all() and (contrasts["difference"] > 0).all() and (contrasts["points"] > 0).all()


def test_chance_seldom_survives() -> None:
    # Corrected, one study of twenty may show anything: four of twelve would by odds of 1 to 500.
    found = [architecture_contrasts(study(luck=0.3, seed=seed), "headline")["survives"].any() for seed in range(12)]
    assert sum(found) <= 3


def test_a_design_with_a_hole_is_refused() -> None:
    models = study()
    with pytest.raises(ValueError, match="design is not whole"):
        variance_shares(models.drop(index=3), "headline")
    with pytest.raises(ValueError, match="design is not whole"):
        architecture_contrasts(pd.concat([models, models.iloc[:1]]), "headline")
    with pytest.raises(ValueError, match="one seed"):
        fitted(models[models["seed"] == 0], "headline")


def test_models_that_are_all_alike_have_no_variance() -> None:
    models = study().assign(headline=0)
    assert not varies(models, "headline")
    with pytest.raises(ValueError, match="same headline"):
        variance_shares(models, "headline")


def test_none_and_all_have_a_logit() -> None:
    models = study().assign(headline=[0] + [ASKED] * 35)
    assert np.isfinite(outcome(models, "headline")).all()


def test_the_answer_follows_the_plant() -> None:
    worse = study({"OpenELM": -1.5})
    shares, contrasts = variance_shares(worse, "headline", draws=200), architecture_contrasts(worse, "headline")
    said = said_in_short("headline", shares, contrasts)
    assert "architecture weighs more than data" in said
    assert "OpenELM at equal size and data is worse than GPT-2 (at 1,000, 4,000 and 16,000 questions)" in said
    data = study(data={1_000: -1.0, 16_000: 1.0})
    shares, contrasts = variance_shares(data, "headline", draws=200), architecture_contrasts(data, "headline")
    said = said_in_short("headline", shares, contrasts)
    assert "data weighs more than architecture" in said and "neither worse nor better" in said


def test_a_loss_counts_the_other_way() -> None:
    better = study({"OpenELM": 1.5})
    said = said_of_architecture("validation_loss", architecture_contrasts(better, "validation_loss"))
    assert "OpenELM at equal size and data is better than GPT-2" in said[-1] and len(said) == 4
    # Its loss is lower: exp(-1.5) of the others'.
    assert "log ratio -1.5" in said[0]
    assert "From 1,000 to 16,000 questions" in said_of_data("headline", data_contrasts(better, "headline"))
    assert "the seed" in said_of_variance("headline", variance_shares(better, "headline", draws=50))


def test_a_rate_at_the_end_of_the_grid_is_told() -> None:
    plan = Plan()
    tried = pd.DataFrame(
        [(name, rate, rate == (max(plan.rates) if name == "GPT-2" else 4e-3)) for name in NAMES for rate in plan.rates],
        columns=["architecture", "learning_rate", "chosen"],
    )
    assert "Of GPT-2 it is the last one tried" in said_of_rates(plan, tried)
    assert "last one tried" not in said_of_rates(plan, tried[tried["architecture"] != "GPT-2"])
