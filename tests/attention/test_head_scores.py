"""Head scores against loops over eager attention, and planted heads."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import planted
from circuitkit.tasks import induction


@pytest.mark.parametrize("name", ["llama", "gpt2", "openelm_style"])
def test_scores_equal_a_loop_over_patterns(name):
    hf, tokenizer = architectures.build(name)
    model, length = ck.Model(hf, tokenizer), 5
    scores = ck.attention.score_heads(model, n=3, length=length, seed=4)
    ids = induction.repeated(tokenizer, 3, 4, length=length)
    for layer in range(model.n_layers):
        for head in range(model.n_heads(layer)):
            pattern = model.run(ids, capture=[ck.Site("pattern", layer=layer, head=head)]).cache
            pattern = pattern[ck.Site("pattern", layer=layer, head=head)]
            previous, duplicate, after = [], [], []
            for row in range(3):
                for query in range(1, 10):
                    previous.append(pattern[row, query, query - 1])
                    if query >= length:
                        assert ids[row, query] == ids[row, query - length]
                        duplicate.append(pattern[row, query, query - length])
                        after.append(pattern[row, query, query - length + 1])
            for ours, values in (
                (scores.previous_token, previous),
                (scores.duplicate_token, duplicate),
                (scores.induction, after),
            ):
                torch.testing.assert_close(ours[layer, head], torch.stack(values).mean(), atol=1e-5, rtol=1e-4)
    assert len(scores.frame) == sum(model.n_heads(layer) for layer in range(model.n_layers))


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-induction-llama"])
def test_planted_heads_have_the_highest_scores(name):
    plant = planted.build(name)
    scores = ck.attention.score_heads(ck.load(name), n=4)
    lookups = {plant.circuit["induction"], plant.circuit["saturated"], plant.decoy}
    ranked = scores.frame.sort_values("induction", ascending=False)
    # The decoy attends as the induction head does: a pattern alone cannot tell them apart.
    assert lookups <= set(zip(ranked["layer"][:4], ranked["head"][:4], strict=True))
    assert (ranked["layer"].iloc[0], ranked["head"].iloc[0]) == plant.circuit["saturated"]
    best = scores.frame.loc[scores.frame["previous_token"].idxmax()]
    assert (best["layer"], best["head"]) == plant.circuit["previous"] and best["previous_token"] > 0.9


def test_text_and_no_tokenizer_are_told_apart():
    hf, _ = architectures.build("llama")
    with pytest.raises(ValueError, match="name the token ids"):
        ck.attention.score_heads(ck.Model(hf))
    scores = ck.attention.score_heads(ck.Model(hf), n=2, length=6, vocabulary=range(5, 90))
    assert scores.induction.isfinite().all()
