"""Gold scores in one forward a proof equal those of a run for every gold token."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.attention import NotCausalError


def slow_way(model: ck.Model, prompt: list[int], gold: list[int], layer: int) -> torch.Tensor:
    """Each gold token's best score, `[head, token]`: run by run, from captured patterns."""
    best = []
    for at in range(len(gold)):
        prefix = [*prompt, *gold[:at]]
        pattern = ck.attention.capture(model, [prefix], layers=[layer]).cache[ck.Site("pattern", layer=layer)][0]
        scores = ck.attention.token_scores(pattern)
        same = torch.tensor([token == gold[at] for token in prefix])
        best.append(scores[:, same].amax(-1) if same.any() else torch.zeros(len(scores)))
    return torch.stack(best, -1)


def drawn(seed: int, length: int, n_gold: int) -> tuple[list[int], list[int]]:
    """Tokens out of a few, so that most gold tokens have occurred before, and one that has not."""
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randint(5, 12, (length,), generator=generator).tolist()
    gold = torch.randint(5, 12, (n_gold,), generator=generator).tolist()
    gold[n_gold // 2] = 50
    return prompt, gold


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "mistral", "gpt_oss", "bloom", "falcon", "openelm_style"])
def test_one_forward_a_proof_equals_a_run_for_every_gold_token(name):
    model = ck.Model(*architectures.build(name))
    proofs = [drawn(0, 30, 5), drawn(1, 21, 8), drawn(2, 6, 3)]
    layers = model.layers_with("pattern")[-2:]
    scored = ck.attention.gold_scores(
        model, [prompt for prompt, _ in proofs], [gold for _, gold in proofs], layers, progress=False
    )
    for row, (prompt, gold) in enumerate(proofs):
        for at, layer in enumerate(layers):
            oracle = slow_way(model, prompt, gold, layer)
            ours = scored.by_token[row, at, : len(oracle), : len(gold)]
            torch.testing.assert_close(ours, oracle, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(scored.values[row, at, : len(oracle)], oracle.mean(-1), atol=1e-5, rtol=1e-5)
        assert scored.by_token[row, :, :, len(gold) :].isnan().all()
        assert scored.absent[row].tolist()[len(gold) // 2]


@settings(deadline=None, max_examples=6)
@given(length=st.integers(2, 40), n_gold=st.integers(1, 12), seed=st.integers(0, 1000), batch=st.integers(1, 3))
def test_whatever_the_lengths(length, n_gold, seed, batch):
    model = ck.Model(*architectures.build("llama"))
    proofs = [drawn(seed, length, n_gold), drawn(seed + 1, 17, 5)]
    scored = ck.attention.gold_scores(
        model, [p for p, _ in proofs], [g for _, g in proofs], 1, batch_size=batch, progress=False
    )
    torch.testing.assert_close(scored.by_token[0, 0, :, :n_gold], slow_way(model, *proofs[0], 1), atol=1e-5, rtol=1e-5)


def test_the_tables_figure_is_the_mean_over_heads_tokens_and_proofs():
    model = ck.Model(*architectures.build("llama"))
    proofs = [drawn(seed, 20, 6) for seed in range(5)]
    scored = ck.attention.gold_scores(model, [p for p, _ in proofs], [g for _, g in proofs], progress=False)
    oracle = [slow_way(model, prompt, gold, 2).mean(0).mean() for prompt, gold in proofs]
    assert scored.layers == (2,)
    assert scored.mean == pytest.approx(float(np.mean(oracle)), abs=1e-5)
    row = scored.table.query("head == 'mean'").iloc[0]
    assert row["low"] < scored.mean < row["high"] and row["proofs"] == 5
    assert len(scored.frame) == 5 * 4 and (scored.frame["gold_tokens"] == 6).all()


def test_text_is_joined_with_one_space_and_the_papers_double_space_is_an_option():
    model = ck.load("deductor-130k")
    prompt, gold = "Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA:", "Fae is a wumpus."
    ids = model.tokenizer(prompt)["input_ids"]
    whole = model.tokenizer(f"{prompt} {gold}")["input_ids"]
    as_ids = ck.attention.gold_scores(model, [ids], [whole[len(ids) :]], progress=False)
    for said in (gold, f" {gold}", f"  {gold}"):
        as_text = ck.attention.gold_scores(model, [prompt], [said], progress=False)
        torch.testing.assert_close(as_text.by_token, as_ids.by_token)
    doubled = ck.attention.gold_scores(model, [prompt], [gold], between="  ", progress=False)
    assert doubled.by_token.shape[-1] == len(model.tokenizer(f"{prompt}  {gold}")["input_ids"]) - len(ids)
    assert doubled.by_token.shape != as_text.by_token.shape


def test_tokens_are_one_by_id_or_by_text():
    hf, tokenizer = architectures.build("llama")
    tokenizer.decode = lambda ids: "same" if set(ids) <= {5, 6} else f"w{ids[0]}"
    model = ck.Model(hf, tokenizer)
    by_id = ck.attention.gold_scores(model, [[5, 8, 9, 10]], [[6]], progress=False)
    by_text = ck.attention.gold_scores(model, [[5, 8, 5, 10]], [[6]], match="text", progress=False)
    assert by_id.absent.all() and float(by_id.by_token.max()) == 0
    assert not by_text.absent.any() and float(by_text.by_token.max()) > 0


def test_models_whose_prefixes_attend_otherwise_are_refused():
    model = ck.Model(*architectures.build("llama"))

    def seeing_all(module, args, kwargs):
        columns = kwargs["hidden_states"].shape[1]
        return args, {**kwargs, "attention_mask": torch.zeros(1, 1, columns, columns)}

    for layer in model.hf.model.layers:
        layer.self_attn.register_forward_pre_hook(seeing_all, with_kwargs=True)
    with pytest.raises(NotCausalError, match="tokens attend to later ones"):
        ck.attention.gold_scores(model, [[5, 6, 7, 8]], [[6, 7]], progress=False)


def test_a_model_that_attends_by_the_length_of_the_text_is_refused():
    hf, tokenizer = architectures.build("llama")
    rotary = hf.model.rotary_emb
    original = rotary.forward

    def stretched(x, position_ids):
        return original(x, position_ids * (2 if position_ids.shape[-1] > 10 else 1))

    rotary.forward = stretched
    with pytest.raises(NotCausalError, match="attends otherwise within a prompt"):
        ck.attention.gold_scores(ck.Model(hf, tokenizer), [[5, 6, 7, 8, 9, 10]], [[6] * 8], progress=False)


def test_scores_load_again(tmp_path):
    model = ck.Model(*architectures.build("openelm_style"))
    proofs = [drawn(seed, 20, 6) for seed in range(3)]
    scored = ck.attention.gold_scores(model, [p for p, _ in proofs], [g for _, g in proofs], range(3), progress=False)
    again = ck.attention.GoldScores.load(scored.save(tmp_path / "gold.safetensors"))
    assert again.table.equals(scored.table) and again.frame.equals(scored.frame)
    assert again.provenance == json.loads(json.dumps(scored.provenance))
    assert again.plot().get_title() == "Attention score of the next gold token, 3 proofs"
    one = ck.attention.gold_scores(model, [p for p, _ in proofs], [g for _, g in proofs], progress=False).plot()
    assert [text.get_text() for text in one.figure.legends[0].get_texts()] == ["mean over proofs (line: 95% interval)"]
    with pytest.raises(ValueError, match="holds no token scores"):
        ck.attention.TokenScores.load(tmp_path / "gold.safetensors")


def test_what_cannot_be_scored_is_named():
    model = ck.Model(*architectures.build("llama"))
    for prompts, golds, said in (
        ([[5, 6]], [], "1 prompts and 0 golds"),
        ([[5, 6], [7, 8]], [[5], []], "the gold of prompt 1 is empty"),
        ([[5, 6], [7]], [[5], [7]], "prompt 1 has 1 tokens"),
        ([[5] * 60], [[5] * 10], "prompt 0 has 70 tokens, but the model's context holds 64"),
        (["w5 w6"], [[5]], "not a mixture"),
        ("w5 w6", "w5", "put a single one in brackets"),
        (["w5 w6"], [" "], "the gold of prompt 0 is empty"),
    ):
        with pytest.raises(ValueError, match=said):
            ck.attention.gold_scores(model, prompts, golds, progress=False)
    with pytest.raises(ValueError, match="no tokenizer"):
        ck.attention.gold_scores(ck.Model(model.hf), ["w5 w6"], ["w5"], progress=False)


@pytest.mark.skipif("CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA does not name the published prompts")
def test_published_prompts_are_scored():
    published = json.loads((Path(os.environ["CIRCUITKIT_DATA"]) / "prontoqa" / "prompts.json").read_text())
    rows = published["implication_elimination/3shot"]
    model = ck.load("deductor-130k")
    scored = ck.attention.gold_scores(model, rows["prompts"][:3], rows["gold"][:3], progress=False)
    assert len(scored.frame) == 3 * 4 and 0 < scored.mean < 1
    # All that a one-hop proof says is in its question, but for what its sentences begin with.
    assert scored.frame["absent"].max() < 0.2
