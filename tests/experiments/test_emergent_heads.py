"""Emergent heads: prompts, recipes and plans; the quick study to its end, and again from where it was."""

from dataclasses import replace

import emergent_heads
import pandas as pd
import pytest
import torch
from emergence.asking import Contest, Deductions
from emergence.plans import HUB, OPENINGS, PRESETS, PUBLISHED, STEP, hub_plan
from emergence.prompts import deductions, openings
from emergence.study import Running, Study

import circuitkit as ck
from circuitkit.circuits import Graph
from circuitkit.circuits import emergent_heads as found_heads
from circuitkit.tasks.task import TaskError


@pytest.fixture(scope="module")
def model() -> ck.Model:
    return ck.load("deductor-5k")


def graph_of(model: ck.Model, seed: int) -> Graph:
    layout = ck.circuits.Layout.of(model)
    scores = torch.randn(layout.reach.shape, generator=torch.manual_seed(seed)) * layout.reach
    return Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))


def test_a_recipe_cuts_a_share_of_the_edges_or_the_published_number_and_then_by_the_threshold(model):
    graph = graph_of(model, 0)
    assert STEP.edges(1000) == 100 and PUBLISHED.edges(1000) == 1000 and PUBLISHED.edges(183_555) == 5000
    circuit = PUBLISHED.cut(graph)
    assert circuit.scores[circuit.members].abs().min() >= 0.1
    assert STEP.cut(graph).size <= round(0.1 * graph.layout.n_edges)
    assert (PUBLISHED.steps, PUBLISHED.rule, PUBLISHED.metric, PUBLISHED.examples) == (
        100,
        "right",
        "kl",
        "mean-absolute",
    )


def test_circuits_and_answers_have_other_questions_none_twice():
    asked = Deductions(("implication_elimination",), (1, 2), n=5, circuit=3)
    circuit, answers = ({item.question for item in asked.task(part).items} for part in ("circuit", "answers"))
    assert len(circuit) == 6 and len(answers) == 10 and not circuit & answers


def test_openings_are_of_one_length_and_swapped_for_the_base(model):
    names = ("Fae", "Rex", "Max", "Sam", "Sally")
    problems = [f"Q: Every wumpus is loud. {name} is a wumpus. Prove: {name} is loud.\nA:" for name in names]
    base = [" Fae is loud. Fae is loud."] * 5
    post = [" Fae is a wumpus. Wumpuses are loud."] * 4 + [" Fae"]
    told = openings(model.tokenizer, problems, base, post, 4, 10, chat=False, thinks=False)
    assert len(told) == 4
    (clean, _), (swapped, align) = (told.of(role).on(model) for role in ("post", "base"))
    assert clean.clean == swapped.corrupt and clean.corrupt == swapped.clean and align == "tokens"
    assert {len(one) == len(other) for one, other in zip(clean.clean, clean.corrupt, strict=True)} == {True}
    assert model.tokenizer.decode(clean.clean[0]).endswith("Fae is a wumpus")
    with pytest.raises(SystemExit, match="--opening-tokens"):
        openings(model.tokenizer, problems, post, post, 4, 10, chat=False, thinks=False)


def test_a_step_has_the_same_pairs_for_both_models(model):
    written = deductions(model.tokenizer, 6, seed=0)
    pairs, _ = written.on(model)
    drawn = ck.tasks.deductions.pairs(model.tokenizer, 6, 0)
    assert model.tokenizer.decode(list(pairs.clean[0])) == drawn.clean[0]
    assert model.tokenizer.decode([written.answer[0]]) == drawn.answer[0]


def test_sets_are_the_most_important_heads_of_each_kind(model, tmp_path):
    base, post = (STEP.cut(graph_of(model, seed)) for seed in (0, 1))
    changes = found_heads(base=base, post=post, progress=False)
    sets = Study(replace(PRESETS["quick"], sets=1), Running(tmp_path)).sets(changes)
    for name in ("emergent", "retained", "lost"):
        heads = getattr(changes, name)
        assert (name in sets) == bool(heads)
        if heads:
            strength = changes.effects.base if name == "lost" else changes.effects.post
            assert list(sets[name]) == [max(heads, key=lambda head: float(strength[head]))]


@pytest.mark.parametrize("pair", HUB)
def test_the_papers_pairs_are_asked_as_in_the_paper(pair):
    twins, more = HUB[pair]
    plan = hub_plan(twins, "aime24", **more)
    settings = plan.asked.settings
    assert settings["decoding"].settings["temperature"] == 0.6 and settings["chat"]
    assert plan.asked.max_new_tokens == more.get("max_new_tokens", 32_768)
    assert PUBLISHED in plan.recipes and OPENINGS in plan.recipes
    think = {role: Study(plan, Running("nowhere")).think(role) for role in ("base", "post")}
    assert think == ({"base": False, "post": True} if pair == "qwen3-8b" else {"base": None, "post": None})


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"base": "deductor-5k-base"}, "name both"), ({"recipes": ("none",)}, "no recipe 'none'")],
)
def test_what_does_not_go_together_is_refused(asked, said, tmp_path):
    with pytest.raises(SystemExit, match=said):
        emergent_heads.main(out=tmp_path, **asked)


def test_samples_without_a_temperature_are_refused():
    with pytest.raises(TaskError, match="all samples are alike"):
        Contest("aime24", temperature=0.0)


@pytest.mark.slow
def test_the_quick_study_runs_to_its_end_and_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    emergent_heads.main(out=tmp_path, preset="quick", workers=1, progress=False)
    page = (tmp_path / "report.md").read_text()
    assert "## step" in page and "## published" in page and "## Heads changed while post answers" in page
    counts = pd.read_csv(tmp_path / "counts.csv").set_index("recipe")
    heads = pd.read_csv(tmp_path / "heads.csv")
    for recipe, row in counts.iterrows():
        own = heads[heads["recipe"] == recipe]["change"].value_counts()
        assert all(own.get(name, 0) == row[name] for name in ("emergent", "retained", "lost"))
    effects = pd.read_csv(tmp_path / "effects, post.csv")
    assert set(effects["way"]) == {"zero", "x1.3"} and (effects["controls"] <= 2).all()
    assert {path.suffix for path in tmp_path.glob("*.png")} == {".png"} and len(list(tmp_path.glob("*.png"))) >= 14

    def never(*_, **__):
        raise AssertionError("what is there was done anew")

    for name in ("attribute", "generation_effects", "cross_patch"):
        monkeypatch.setattr(ck.circuits, name, never)
    emergent_heads.main(out=tmp_path, preset="quick", workers=1, progress=False)
    assert (tmp_path / "report.md").read_text() == page
