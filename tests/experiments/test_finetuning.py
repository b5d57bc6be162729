"""The fine-tuning study: its data are the published ones, models are asked what is said, tables tell planted truths."""

import json
from dataclasses import replace

import finetuning
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_rel
from transformers import PreTrainedModel
from tuning import cells, figures, findings, newlines, plans, published, study, tables
from tuning.asking import Asked
from tuning.texts import RULES, Data, DataError, plain, read, swapped

import circuitkit as ck
from circuitkit.studies import Pretrained
from circuitkit.tasks import prontoqa


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(trials=20)


def test_the_published_set_is_the_three_exemplars_of_a_hundred_runs_of_six_rules():
    whole = Data(seed=3)
    assert len(whole.examples) == 6 * 100 * 3
    training, validation = whole.split()
    assert (len(training), len(validation)) == (1620, 180)
    assert not {plain(each.question) for each in training} & {plain(each.question) for each in validation}
    assert whole.split() == Data(seed=3).split()
    run = prontoqa.generate("disjunction_elimination", shots=3, n=100, seed=3)[7]
    shown = [each for each in whole.examples if each.key.startswith("disjunction_elimination/1/007/")]
    for exemplar, example in zip(run.exemplars, shown, strict=True):
        assert exemplar == f"Q: {example.question}\n\nA: {example.chain}\n\n\n"
        assert prontoqa.judge(example.question, example.chain).sound


def test_test_questions_that_are_trained_on_are_counted_dropped_or_refused():
    kept, dropped = Data(trials=40), Data(trials=40, duplicates="drop")
    counts = kept.duplicated
    tested = {plain(run.judged) for rule, hops in kept.parts for run in kept.runs(rule, hops)}
    shown = [plain(example.question) for example in kept.examples]
    assert sum(counts.values()) > 0 and set(counts) == set(RULES)
    for rule in RULES:
        runs = kept.runs(rule, 1)
        own = {plain(read(exemplar)[0]) for run in runs for exemplar in run.exemplars}
        assert counts[rule] == sum(plain(run.judged) in own for run in runs)
    assert len(dropped.examples) == sum(question not in tested for question in shown)
    assert not tested & {plain(example.question) for example in dropped.examples}
    with pytest.raises(DataError, match=r"training questions are test questions too, the first .*Drop them"):
        _ = Data(trials=40, duplicates="refuse").examples


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rules": ("modus",)}, "no rule 'modus'"),
        ({"trials": 0}, "no data"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"withheld": ("cat",)}, "'cat' is no name and no concept"),
    ],
)
def test_data_that_cannot_be_drawn_are_refused(settings, told):
    with pytest.raises(DataError, match=told):
        Data(**settings)


def test_withheld_words_are_nowhere_and_proofs_stay_sound(data):
    away = Data(trials=20, withheld=plans.WITHHELD)
    assert len(away.examples) == len(data.examples)
    for before, after in zip(data.examples, away.examples, strict=True):
        whole = f"{after.question} {after.chain}".lower()
        assert not any(word.lower() in whole for word in plans.WITHHELD)
        assert prontoqa.judge(after.question, after.chain).sound
        if not any(word.lower() in f"{before.question} {before.chain}".lower() for word in plans.WITHHELD):
            assert after == before


def test_words_are_swapped_in_every_form():
    words = {"lorpus": "gorpus", "Wren": "Rex"}
    assert swapped("Lorpuses are shy. Wren is a lorpus, no lorpuses.", words) == (
        "Gorpuses are shy. Rex is a gorpus, no gorpuses."
    )


def test_questions_are_those_of_the_runs_behind_either_separator():
    asked = Asked(seed=5, n=4)
    published_, trained = asked.task(), Asked(seed=5, n=4, separator="trained").task()
    for one, other in zip(published_.items, trained.items, strict=True):
        gap = "\n\n" if one.groups["rule"] in prontoqa.ONE_HOP_RULES else "\n"
        assert one.question.endswith(f".{gap}A:") and other.question.endswith(".\nA:")
        assert one.question.replace("\n\nA:", "\nA:") == other.question
    runs = Data(seed=5, trials=4).runs("proof_by_contradiction", 1)
    last = [item for item in published_.items if item.groups["rule"] == "proof_by_contradiction"]
    assert [item.question for item in last] == [run.prompt.removeprefix("".join(run.exemplars)) for run in runs]
    behind = Asked(seed=5, n=4, shots=3).task()
    assert behind.prompt(behind.items[-1]) == runs[-1].prompt


def test_questions_in_other_words_are_asked_in_the_same_places():
    forms = {
        words: Asked(n=12, words=words, withheld=plans.WITHHELD).task().items
        for words in ("known", "withheld", "withheld names", "new names")
    }
    for known, withheld, named, new in zip(*forms.values(), strict=True):
        assert not any(word.lower() in known.question.lower() for word in plans.WITHHELD)
        assert any(word in withheld.question for word in ("Stella", "Wren"))
        assert any(word in named.question for word in ("Stella", "Wren")) and "lorpus" not in named.question
        assert any(word in new.question for word in ("Zora", "Milo", "Ines", "Otto"))
        assert len({len(each.question.split()) for each in (known, withheld, named, new)}) == 1
        for item in (known, withheld, named, new):
            assert prontoqa.judge(item.question, "Nothing.").correct is False


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_training_questions_are_those_of_the_training(duplicates):
    plan = plans.Plan(models=("deductor-5k-base",), trials=40, n=40, hops=(), duplicates=duplicates)
    begun = {"deductor-5k-base": study.Start(Pretrained("deductor-5k-base"), 4144, None)}
    job = study.trainings(plan, begun)[0]
    who = study.Subject(job.model, job.training, job.seed, job.start)
    asked = next(how for _, how, _ in study.questions(plan, who) if how.of == "training")
    shown = {plain(example.question) for example in job.data.split()[0]}
    questions = [plain(item.question.removeprefix("Q: ").split("\n")[0]) for item in asked.task().items]
    assert len(questions) == 6 * 40 and set(questions) <= shown


def test_questions_that_are_trained_on_are_dropped_from_stages_too():
    plan = replace(plans.SMALL, duplicates="drop")
    start = study.Start(Pretrained("deductor-20k-base"), 21_264, None)
    every = [
        plans.CURRICULA[name][at].data(0, plan.trials, plan.duplicates) for name in plans.CURRICULA for at in (0, 1, 2)
    ]
    for data in [*every, *(study.after(plan, start, name, 0)[0] for name in study.AFTER)]:
        assert data.duplicates == "drop"


def test_a_twin_has_a_token_of_two_newlines_and_is_the_same_model_otherwise():
    base, twin = ck.load("deductor-20k-base"), newlines.merged_twin(ck.load("deductor-20k-base"))
    text = "Q: Each wumpus is shy. Fae is a wumpus. Prove: Fae is shy.\nA: Fae is a wumpus."
    ids, own = (model.tokens(text).ids for model in (base, twin))
    assert torch.equal(ids, own)
    logits, same = base.run(text).logits, twin.run(text).logits
    assert torch.equal(logits, same[..., :-1])
    assert twin.tokens("\n\nA:").ids.shape[1] + 1 == base.tokens("\n\nA:").ids.shape[1]
    assert torch.equal(same[..., -1], same[..., base.tokenizer.convert_tokens_to_ids("\n")])
    assert twin.tokenizer.decode(twin.tokens("Fae.\n\n Assume").ids[0]) == "Fae.\n\n Assume"
    texts = [f"Q: {each.question}\nA: {each.chain}\n\n" for each in Data(trials=5).examples]
    read_by = {
        "words": base.tokenizer,
        "twin": twin.tokenizer,
        "gpt2": newlines.byte_pairs(texts),
        "llama3": newlines.byte_pairs(texts, newlines.CL100K),
    }
    table = newlines.separators_table(read_by).set_index("tokenizer")["new at test"]
    assert table.to_dict() == {"words": "none", "twin": r"'\n\n'", "gpt2": "none", "llama3": r"'.\n\n'"}


def test_a_training_keeps_its_models_and_is_done_once(tmp_path):
    data, how = Data(trials=3), cells.Tuning(learning_rate=3e-3, epochs=2, context=128, batch=4)
    first = cells.fine_tuned(ck.load("deductor-5k-base"), data, how, 0, str(tmp_path / "a"))
    again = cells.fine_tuned(ck.load("deductor-5k-base"), data, how, 0, str(tmp_path / "a"))
    assert first["weights"] == again["weights"] and first["training_seconds"] == again["training_seconds"]
    tuned, base = ck.load(first["weights"]), ck.load("deductor-5k-base")
    assert not torch.equal(tuned.hf.lm_head.weight, base.hf.lm_head.weight)
    asked = Asked(n=2, max_new_tokens=16)
    told = cells.proved(tuned, asked, "clean")
    found = ck.evaluate(tuned, asked.task(), shots=0, progress=False).frame
    answers = json.loads(told["answers"])
    assert [each["rule"] for each in answers] == list(RULES)
    assert "".join(each["headline"] for each in answers) == "".join("01"[value] for value in found["headline"])
    assert ck.load(first["last_weights"]).tokenizer is not None


def test_the_last_step_s_model_is_another_than_the_chosen_one_and_reads_the_same(tmp_path):
    # A rate that rises to where nothing is learnt: the first epoch is the best.
    diverging = {"schedule": "constant", "warmup": 1.0}
    how = cells.Tuning(learning_rate=5.0, epochs=2, context=128, batch=4, more=diverging)
    told = cells.fine_tuned(ck.load("deductor-5k-base"), Data(trials=3), how, 0, str(tmp_path))
    assert told["chosen"] < told["steps"]
    chosen, last = ck.load(told["weights"]), ck.load(told["last_weights"])
    assert torch.equal(chosen.tokens("Fae is shy.").ids, last.tokens("Fae is shy.").ids)
    assert not torch.equal(chosen.hf.lm_head.weight, last.hf.lm_head.weight)


def test_a_twin_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    name = "deductor-5k-base-newlines"
    plan, make = plans.Plan(models=(name,)), newlines.merged_twin

    def full(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space"):
        broken.setattr(PreTrainedModel, "save_pretrained", full)
        study.starts(plan, tmp_path)
    assert not list((tmp_path / "twins").iterdir())
    others = []

    def while_another_saves_it(model):
        monkeypatch.setattr(newlines, "merged_twin", make)
        others.append(study.starts(plan, tmp_path)[name])
        return make(model)

    monkeypatch.setattr(newlines, "merged_twin", while_another_saves_it)
    start = study.starts(plan, tmp_path)[name]
    assert start.tokenizer.tokenize("\n\nA:") == ["\n\n", "A", ":"] and start.weights == others[0].weights
    assert [path.name for path in (tmp_path / "twins").iterdir()] == [name]


def test_grpo_trains_on_training_questions(tmp_path):
    data = Data(trials=3, rules=("proof_by_contradiction",))
    how = cells.Reinforcing(learning_rate=1e-3, steps=1, batch=4, group=2, max_new_tokens=8)
    told = cells.reinforced(ck.load("deductor-5k-base"), data, how, 0, str(tmp_path))
    assert told["steps"] == 1 and told["examples"] == 8 and told["validated_on"] == 0


def answers(**bits: str) -> dict[str, str]:
    kept = dict.fromkeys(("headline", "strict", "sound", "unparseable", "truncated", *cells.WORDS), "0" * 20)
    return kept | bits


def rows(training: str, rule: str, seed: int = 0, **bits: str) -> dict[str, object]:
    asked = {"of": "test", "shots": 0, "separator": "published", "words": "as drawn", "decoding": "clean"}
    asked |= {name: bits.pop(name) for name in list(bits) if name in asked}
    named = {"model": "m", "training": training, "seed": seed, "parameters": 1, "rule": rule, "hops": 1}
    return {**named, **asked, **answers(**bits)}


def test_degraded_and_improved_rules_are_flagged_and_chance_is_not():
    full, none, few = "1" * 20, "0" * 20, "1" * 3 + "0" * 17
    table = tables.degraded_table(
        pd.DataFrame(
            [
                rows("none", RULES[0], headline=full),
                rows("none", RULES[1], headline=none),
                rows("none", RULES[2], headline=none),
                rows("all", RULES[0], headline=none),
                rows("all", RULES[1], headline=full),
                rows("all", RULES[2], headline=few),
            ]
        )
    ).set_index("rule")
    assert table["verdict"].tolist() == ["degraded", "improved", "not told apart"]
    assert table.loc[RULES[0], "p_corrected"] == pytest.approx(3 * 2 * 0.5**20)
    assert (table.loc[RULES[2], "p"], table.loc[RULES[2], "only_tuned"]) == (0.25, 3)
    said = findings.said_of_degraded(table.reset_index())
    assert "1 of 3 rules and hops of tuned models are degraded" in said[0] and "100 to 0 %" in said[0]


def test_transfer_is_told_from_none_and_from_what_was_never_learnt():
    full, none, half = "1" * 20, "0" * 20, "10" * 10

    def of(rule: str, untrained: str, without: str, whole: str) -> list[dict[str, object]]:
        kinds = {"none": untrained, f"proofs without {rule}": without, "proofs of all": whole}
        return [
            rows(name, rule, seed, separator="trained", headline=bits, strict=bits, sound=bits)
            for name, bits in kinds.items()
            for seed in (0, 1)
        ]

    told = [*of(RULES[0], none, none, full), *of(RULES[1], none, half, full), *of(RULES[2], none, none, none)]
    table = tables.transfer_table(pd.DataFrame(told))
    headline = table[table["judge"] == "headline"].set_index("rule")
    assert headline["n"].tolist() == [40, 40, 40]
    assert headline["gain"].tolist() == [0.0, 0.5, 0.0] and headline["gap"].tolist() == [1.0, 0.5, 0.0]
    assert (headline["gain_p_corrected"] < 0.05).tolist() == [False, True, False]
    said = " ".join(findings.said_of_transfer(table))
    assert "of 2 rules that are learnt where they are shown, 1 " in said
    lenient = pd.DataFrame([row | {"strict": none} if "without" in row["training"] else row for row in told])
    apart = findings.said_of_transfer(tables.transfer_table(lenient))
    assert any("headline judge: of 2 rules" in each and "1 is proved better" in each for each in apart)
    assert any("strict judge: of 2 rules" in each and "0 are proved better" in each for each in apart)
    reverse = findings.said_of_transfer(tables.transfer_table(pd.DataFrame(of(RULES[0], none, full, half))))
    assert "and more than trained on all" in reverse[0]
    nothing = findings.said_of_transfer(tables.transfer_table(pd.DataFrame(of(RULES[2], none, none, none))))
    assert "no rule is learnt even where it is shown" in nothing[-1]


def test_remembered_questions_and_words_show_as_differences():
    full, none = "1" * 20, "0" * 20
    told = [
        rows("all", RULES[0], separator="trained", headline=none),
        rows("all", RULES[0], separator="trained", of="training", headline=full),
        rows("proofs without words", RULES[0], separator="trained", words="known", headline=full),
        rows("proofs without words", RULES[0], separator="trained", words="withheld", headline=none),
    ]
    table = tables.memorising_table(pd.DataFrame(told))
    assert table["difference"].tolist() == [-1.0, -1.0] and (table["high"] < 0).all()
    assert table["other"].tolist() == ["new questions", "withheld names and concepts"]


def test_words_never_said_are_those_that_the_rule_needs():
    told = [
        rows("all", "disjunction_elimination", Assume="1" + "0" * 19),
        rows("all", "proof_by_contradiction", decoding="paper"),
        rows("all", "implication_elimination"),
    ]
    table = tables.confound_table(pd.DataFrame(told), seed=0)
    assert table["never said"].tolist() == ["Since", "Assume, contradicts", ""]
    assert table["said Assume"].tolist() == [1, 0, 0]


def test_ways_of_equal_steps_are_held_against_each_other_seed_by_seed():
    shares = {"mixed": (0.1, 0.2, 0.3), "easy to hard": (0.3, 0.4, 0.5), "hard to easy": (0.1, 0.2, 0.3)}
    table = pd.DataFrame(
        [
            {"model": "m", "arm": arm, "seed": seed, "kind": "k", "headline": share}
            for arm, each in shares.items()
            for seed, share in enumerate(each)
        ]
    )
    found = findings.contrasts_table(table).set_index("arm")
    assert found["difference"].tolist() == pytest.approx([0.2, 0.0])
    assert found.loc["easy to hard", "low"] == pytest.approx(0.2) and found["seeds"].tolist() == [3, 3]
    assert found.loc["easy to hard", "p_corrected"] < 1e-9 and np.isnan(found.loc["hard to easy", "p"])
    assert "better in 1, worse in 0 of 1" in findings.said_of_stages(found.reset_index())[0]


def test_stages_are_told_apart_only_after_correction():
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            {"model": "m", "arm": arm, "seed": seed, "kind": f"k{number}", "headline": random.random()}
            for arm in ("mixed", "easy to hard")
            for seed in range(3)
            for number in range(20)
        ]
    )
    found = findings.contrasts_table(table)
    shares = table.pivot(index="seed", columns=["kind", "arm"], values="headline")
    for row in found.to_dict("records"):
        tested = ttest_rel(shares[row["kind"], "easy to hard"], shares[row["kind"], "mixed"])
        interval = tested.confidence_interval()
        assert (row["p"], row["low"], row["high"]) == pytest.approx((tested.pvalue, interval.low, interval.high))
    assert found["p_corrected"].min() == pytest.approx(min(1.0, 20 * found["p"].min()))


def test_the_published_table_is_whole_and_its_degraded_rules_are_those_of_hypotheses():
    table = published.published_table()
    assert len(table) == 24 * 6 and int(table["strict"].notna().sum()) == 9 * 6 + 1
    strict = table.dropna(subset=["strict"])
    assert (strict["strict"] <= strict["headline"]).all()
    worse = published.degraded(table).query("verdict == 'degraded'")
    assert len(worse) == 10 and set(worse["rule"]) == {"disjunction_elimination"}
    assert len(figures.published(table).axes) == 6


def test_published_needs_no_model(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CIRCUITKIT_DATA", raising=False)
    finetuning.main(out=tmp_path, published=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "published.csv",
        "published_changes.csv",
        "published.png",
        "published.svg",
        "sentences.md",
        "provenance.json",
    }
    assert "CIRCUITKIT_DATA names no folder" in capsys.readouterr().out


def test_a_plan_names_only_models_that_it_has():
    with pytest.raises(ValueError, match="transfer: deductor-5k is not among the models"):
        plans.Plan(models=("deductor-20k",), transfer=("deductor-5k",))
    with pytest.raises(ValueError, match="20 questions a rule are asked of 12 runs"):
        plans.Plan(trials=12, n=20)
    kept = finetuning.planned(plans.FULL, ("deductor-20k-base",), None, None, (4, 5), "drop")
    assert (kept.transfer, kept.staged, kept.seeds, kept.staged_seeds) == (("deductor-20k-base",), (), (4,), (4, 5))
    assert kept.rated(cells.Tuning(), 130_000).learning_rate == 3e-3
    assert kept.rated(cells.Tuning(), 124_000_000).learning_rate == 2e-5


def test_ways_of_equal_steps_share_their_first_stages():
    names = {arm: [stage.name for stage in stages] for arm, stages in plans.CURRICULA.items()}
    assert all(sum(stage.share for stage in stages) == pytest.approx(1) for stages in plans.CURRICULA.values())
    assert {len(stages) for stages in names.values()} == {3} and len({tuple(each) for each in names.values()}) == 3
    assert study.slug("openai-community/gpt2 seed 0") == "openai-community-gpt2-seed-0"


# The small preset with fewer models, proofs, steps and words; every arm, rule, table and figure is there.
SMALLER = replace(
    plans.SMALL,
    models=("deductor-20k-base", "deductor-20k-base-newlines"),
    trials=8,
    n=8,
    tuning=replace(plans.SMALL.tuning, epochs=1),
    transferring=replace(plans.SMALL.transferring, steps=8),
    staged_steps=9,
    after=2,
    grpo=replace(plans.SMALL.grpo, max_new_tokens=24),
    max_new_tokens=32,
)


@pytest.mark.slow
def test_a_preset_runs_whole_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(plans.PRESETS, "small", SMALLER)
    finetuning.main(out=tmp_path, preset="small", progress=False)
    said = capsys.readouterr().out
    for name in ("accuracy", "confound", "degraded", "separators", "memorising", "transfer", "stages", "contrasts"):
        assert len(pd.read_csv(tmp_path / f"{name}.csv")), name
    for name in ("before_after", "confound", "losses", "memorising", "transfer", "stages_deductor-20k-base"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    before = {path: path.stat().st_mtime for path in (tmp_path / "answers" / "done").iterdir()}
    accuracy = pd.read_csv(tmp_path / "accuracy.csv")
    finetuning.main(out=tmp_path, preset="small", progress=False)
    assert {path: path.stat().st_mtime for path in (tmp_path / "answers" / "done").iterdir()} == before
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "accuracy.csv"), accuracy)
    assert capsys.readouterr().out.split("Tables")[0] == said.split("Tables")[0]
    assert np.isfinite(accuracy["headline"]).all()
