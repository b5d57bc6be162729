"""Emergent heads: prompts, recipes and plans; the quick study to its end, and again from where it was."""

import json
from dataclasses import replace

import emergent_heads
import pandas as pd
import pytest
import torch
from emergence.asking import Contest, Deductions
from emergence.fitting import fitting
from emergence.plans import HUB, OPENINGS, PRESETS, PUBLISHED, STEP, hub_plan, hub_twins
from emergence.prompts import deductions, openings
from emergence.study import Running, Study
from reports import same_plan
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

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
    both = {"base": model.tokenizer, "post": model.tokenizer}
    told = openings(both, problems, base, post, 4, 10, chat=False, thinks=False)
    assert len(told) == 4
    (clean, _), (swapped, align) = (told.of(role).on(model) for role in ("post", "base"))
    assert clean.clean == swapped.corrupt and clean.corrupt == swapped.clean and align == "tokens"
    assert {len(one) == len(other) for one, other in zip(clean.clean, clean.corrupt, strict=True)} == {True}
    assert model.tokenizer.decode(clean.clean[0]).endswith("Fae is a wumpus")
    with pytest.raises(SystemExit, match="--opening-tokens"):
        openings(both, problems, post, post, 4, 10, chat=False, thinks=False)


def test_an_opening_that_is_other_tokens_to_the_other_model_is_refused(model):
    both = {"base": model.tokenizer, "post": letters()}
    with pytest.raises(SystemExit, match="other tokens to base and post-trained model, from token 0"):
        openings(both, ["Q"], [" Fae is loud. Fae"], [" Fae is a wumpus."], 4, 10, chat=False, thinks=False)


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
    twins, more = hub_twins(pair, None, "own" if pair == "llama-1b" else None)
    plan = hub_plan(twins, "aime24", **more)
    settings = plan.asked.settings
    drawn = settings["decoding"].settings
    assert (drawn["temperature"], drawn["top_p"]) == (0.6, 0.95) and settings["chat"]
    assert drawn["top_k"] == (20 if pair == "qwen3-8b" else None) and plan.asked.max_new_tokens == 32_768
    assert PUBLISHED in plan.recipes and OPENINGS in plan.recipes
    think = {role: Study(plan, Running("nowhere")).think(role) for role in ("base", "post")}
    assert think == ({"base": False, "post": True} if pair == "qwen3-8b" else {"base": None, "post": None})


def test_a_training_of_ones_own_takes_the_place_of_what_the_paper_made():
    assert hub_twins("llama-1b", None, "my/grpo")[0].base == "meta-llama/Llama-3.2-1B-Instruct"
    assert hub_twins("qwen-1.5b", None, "my/sft-100")[0].name == "Qwen2.5-Math-1.5B and sft-100"
    other = hub_twins("qwen3-8b", "Qwen/Qwen3-4B", None)[0]
    assert other.base == other.post == "Qwen/Qwen3-4B" and other.thinking


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"base": "deductor-5k-base"}, "name both"),
        ({"recipes": ("none",)}, "no recipe 'none'"),
        ({"pair": "llama-1b"}, "name a training of your own as --post"),
        ({"pair": "qwen3-8b", "post": "other"}, "one model against itself"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, said, tmp_path):
    with pytest.raises(SystemExit, match=said):
        emergent_heads.main(out=tmp_path, **asked)


def test_samples_without_a_temperature_are_refused():
    with pytest.raises(TaskError, match="all samples are alike"):
        Contest("aime24", temperature=0.0)


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, with a chat template, that knows no word."""
    told = Tokenizer(models.BPE())
    told.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    told.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    told.train_from_iterator([], trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet))
    fast = PreTrainedTokenizerFast(tokenizer_object=told, pad_token="<end>", eos_token="<end>")
    fast.chat_template = "{% for m in messages %}U: {{ m['content'] }}\n{% endfor %}A:"
    return fast


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> dict[str, str]:
    """Two tiny random models in folders, with a tokenizer of letters."""
    where, names = tmp_path_factory.mktemp("pair"), {}
    for seed, name in enumerate(("base", "post")):
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, eos_token_id=None, pad_token_id=0, initializer_range=0.4,
        )  # fmt: skip
        Qwen2ForCausalLM(config).save_pretrained(where / name)
        letters().save_pretrained(where / name)
        names[name] = str(where / name)
    return names


def test_a_recipe_that_tokenizers_have_no_words_for_is_left_out_before_anything_is_answered(pair, capsys, tmp_path):
    plan = hub_plan(hub_twins(None, **pair)[0], "aime24")
    left = fitting(plan, chosen=False)
    assert [recipe.name for recipe in left.recipes] == ["openings", "published"]
    assert "0 concepts" in left.left_out[0] and "The recipe step is left out" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="the recipe step cannot be run"):
        emergent_heads.main(out=tmp_path, **pair, recipes=("step",))
    assert not list(tmp_path.iterdir())
    assert fitting(PRESETS["small"], chosen=False) == PRESETS["small"]


def test_a_folder_holds_one_plan(tmp_path):
    same_plan(tmp_path, PRESETS["small"].told)
    same_plan(tmp_path, PRESETS["small"].of(("openings",)).told)
    with pytest.raises(SystemExit, match="another plan: seed was 0 and is 3"):
        same_plan(tmp_path, replace(PRESETS["small"], seed=3).told)


@pytest.mark.slow
def test_a_pair_of_ones_own_in_folders_is_asked_through_its_chat_template(pair, tmp_path, monkeypatch):
    lines = [json.dumps({"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"}) for n in range(6)]
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("CIRCUITKIT_DATA", str(tmp_path))
    asked = {"task": "gsm8k", "samples": 1, "max_new_tokens": 8, "opening_tokens": 3, "controls": 0}
    asked |= {"recipes": ("openings",), "limit": 5}
    emergent_heads.main(out=tmp_path / "out", **pair, **asked, workers=1, progress=False)
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## openings" in page and "## Heads changed while post answers" in page
    told = json.loads(next((tmp_path / "out" / "answers" / "post").rglob("settings.json")).read_text())
    assert told["chat"]


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
