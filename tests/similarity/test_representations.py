"""Representations are those of transformers at real tokens; two models' are held against each other by layer."""

import pytest
import torch

import circuitkit as ck
from circuitkit.similarity import cka, layer_similarity, representations

PROMPTS = [
    "Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\nA:",
    "Alex is a rompus. Prove: Alex is blue or a rompus.\nA: Alex is a rompus.",
    "Fae is loud.",
]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_they_are_the_hidden_states_of_transformers_without_padding(batch_size):
    model = ck.load("deductor-60k")
    held = representations(model, PROMPTS, batch_size=batch_size)
    states = []
    for prompt in PROMPTS:
        with torch.no_grad():
            out = model.hf.model(torch.tensor([model.tokenizer(prompt)["input_ids"]]), output_hidden_states=True)
        states.append([each[0] for each in out.hidden_states])
    # transformers' last hidden state is behind the final norm.
    for layer in range(model.n_layers - 1):
        torch.testing.assert_close(held[layer], torch.cat([each[layer + 1] for each in states]), rtol=1e-5, atol=1e-5)
    assert len(held[model.n_layers - 1]) == sum(len(each[0]) for each in states)


def test_a_draw_is_of_the_same_tokens_in_every_model():
    models = [ck.load("deductor-60k"), ck.load("deductor-60k-base")]
    whole = [representations(each, PROMPTS) for each in models]
    drawn = [representations(each, PROMPTS, most=20, seed=3) for each in models]
    assert len(drawn[0][0]) == 20
    places = [(whole[0][0] == row).all(1).nonzero()[0].item() for row in drawn[0][0]]
    assert places == sorted(places)
    for all_of_it, part in zip(whole, drawn, strict=True):
        for layer in part:
            torch.testing.assert_close(part[layer], all_of_it[layer][places])
    other = representations(models[0], PROMPTS, most=20, seed=4)
    assert not torch.equal(other[0], drawn[0][0])


def test_heads_are_laid_side_by_side():
    model = ck.load("deductor-20k")
    held = representations(model, PROMPTS[:1], "z")
    assert held[0].shape == (len(model.tokens(PROMPTS[0]).ids[0]), model.d_model)


def test_each_layer_s_similarity_is_the_cka_of_that_layer():
    base, twin = (representations(ck.load(f"deductor-60k{end}"), PROMPTS) for end in ("-base", ""))
    found = layer_similarity(base, twin, debiased=False).set_index("layer")["cka"]
    for layer in base:
        assert found[layer] == pytest.approx(cka(base[layer], twin[layer], debiased=False))
    assert layer_similarity(base, base)["cka"].tolist() == pytest.approx([1.0] * 3)


def test_what_cannot_be_compared_is_refused():
    base = representations(ck.load("deductor-20k"), PROMPTS)
    with pytest.raises(ValueError, match=r"layers \[0, 1\] cannot be held against layers \[0, 1, 2\]"):
        layer_similarity(base, representations(ck.load("deductor-60k"), PROMPTS))
    with pytest.raises(ValueError, match="no prompts"):
        representations(ck.load("deductor-20k"), [])
    with pytest.raises(ValueError, match="0 tokens are none"):
        representations(ck.load("deductor-20k"), PROMPTS, most=0)
