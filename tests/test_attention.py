import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck


def scores_by_definition(pattern: np.ndarray, zeroed: bool) -> np.ndarray:
    """Kang & Shin's score, sum by sum, as the papers' protocol writes it."""
    size = len(pattern)
    given = [sum(pattern[i][j] for i in range(size)) for j in range(size)]
    if zeroed:
        given[0] = 0.0
    spread = [[pattern[i][j] * given[j] for j in range(size)] for i in range(size)]
    columns = [sum(spread[i][j] for i in range(size)) for j in range(size)]
    passed = [sum(spread[i][j] / columns[j] if columns[j] else 0.0 for j in range(size)) for i in range(size)]
    total = np.array([g + p for g, p in zip(given, passed, strict=True)])
    return (total - total.min()) / (total.max() - total.min())


@settings(deadline=None, max_examples=40)
@given(size=st.integers(2, 9), seed=st.integers(0, 10_000), zeroed=st.booleans())
def test_token_scores_equal_their_definition(size, seed, zeroed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, size, generator=generator, dtype=torch.float64)
    pattern = logits.masked_fill(~torch.ones(size, size, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    ours = ck.attention.token_scores(pattern, first_column="zeroed" if zeroed else "kept")
    np.testing.assert_allclose(ours.numpy(), scores_by_definition(pattern.numpy(), zeroed), atol=1e-12)


def test_padding_takes_no_part():
    hf, tokenizer = architectures.build("gpt2")
    model = ck.Model(hf, tokenizer)
    together = ck.attention.capture(model, [[5, 6, 7, 8, 9], [10, 11, 12]])
    alone = ck.attention.capture(model, [[10, 11, 12]])
    torch.testing.assert_close(together.pattern(1, 2, row=1), alone.pattern(1, 2), atol=1e-5, rtol=1e-5)
    whole = together.cache["pattern[layer=1, head=2]"][1]
    scores = ck.attention.token_scores(whole, real=together.tokens.mask[1])
    assert scores[:2].isnan().all()
    torch.testing.assert_close(scores[2:], ck.attention.token_scores(alone.pattern(1, 2)), atol=1e-5, rtol=1e-5)


def test_heads_are_scored_together():
    hf, _ = architectures.build("llama")
    attention = ck.attention.capture(ck.Model(hf), torch.tensor([[5, 6, 7, 8, 9]]), layers=[1])
    whole = attention.cache["pattern[layer=1]"][0]
    together = ck.attention.token_scores(whole)
    torch.testing.assert_close(together[3], ck.attention.token_scores(whole[3]))


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="a pattern is square"):
        ck.attention.token_scores(torch.rand(3, 4))
    with pytest.raises(ValueError, match="'zeroed' or 'kept'"):
        ck.attention.token_scores(torch.eye(3), first_column="dropped")
    with pytest.raises(ValueError, match="one score"):
        ck.attention.token_scores(torch.eye(1))


def test_a_pattern_is_drawn_with_its_words():
    hf, tokenizer = architectures.build("gpt2")
    attention = ck.attention.capture(ck.Model(hf, tokenizer), torch.tensor([[5, 6, 7, 8]]))
    axes = attention.plot(0, 1)
    assert "layer 0, head 1" in axes.get_title()
    assert len(axes.get_xticklabels()) == 4


def test_a_layer_is_counted_from_the_last_too():
    kept = ck.attention.capture(ck.Model(*architectures.build("gpt2")), [[5, 6, 7]], layers=[-1])
    assert torch.equal(kept.pattern(-1, 0), kept.pattern(2, 0))


def test_saved_patterns_come_back_padding_words_and_names_too(tmp_path):
    model = ck.load("deductor-5k")
    prompts = ["Fae is bright.", "Every wumpus is a </script>dumpus."]
    with pytest.warns(UserWarning, match="does not know"):
        kept = ck.attention.capture(model, prompts, names=["clean", "corrupt"])
    assert kept.save(tmp_path) == tmp_path / "attention.safetensors"
    again = ck.attention.Attention.load(tmp_path)
    assert (again.words, again.names, again.provenance) == (kept.words, ("clean", "corrupt"), kept.provenance)
    assert again.layers == kept.layers == tuple(range(model.n_layers))
    assert again.n_heads(0) == model.n_heads(0)
    for row, words in enumerate(kept.words):
        pattern = again.pattern(-1, 1, row)
        assert pattern.shape == (len(words), len(words))
        assert torch.equal(pattern, kept.pattern(-1, 1, row))
    with pytest.raises(ValueError, match="1 names for 2 prompts: give one each"):
        ck.attention.capture(model, ["Fae is bright.", "Rex is not bright."], names=["clean"])
    with pytest.raises(ValueError, match=r"saved as \.safetensors"):
        kept.save(tmp_path / "patterns.pt")
    ck.Cache.save(kept.cache, tmp_path / "cache.safetensors")
    with pytest.raises(ValueError, match="holds no attention"):
        ck.attention.Attention.load(tmp_path / "cache.safetensors")
