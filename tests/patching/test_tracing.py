"""Causal tracing against plain hooks that add the noise and restore states in one whole run a cell."""

from itertools import pairwise, product

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import PromptError, SiteError, planted
from circuitkit.spans import SpanError


def traced_by_hand(hf, tokens, subject, noise, answer, restored, position) -> torch.Tensor:
    """The answer's probability under noise on the subject's embeddings, some modules' clean outputs put back."""
    clean = {}
    hooks = [
        module.register_forward_hook(lambda m, a, out, m_=module: clean.update({m_: out.clone()}))
        for module in restored
    ]
    hf(tokens)
    for hook in hooks:
        hook.remove()

    def drown(module, args, out):
        out = out.clone()
        out[:, subject] += noise[:, subject]
        return out

    def restore(module, args, out):
        out = out.clone()
        out[:, position] = clean[module][:, position]
        return out

    hooks = [hf.model.embed_tokens.register_forward_hook(drown)]
    hooks += [module.register_forward_hook(restore) for module in restored]
    logits = hf(tokens).logits[:, -1]
    for hook in hooks:
        hook.remove()
    return logits.softmax(-1)[torch.arange(len(tokens)), answer]


@pytest.mark.parametrize(("over", "window"), [("resid_post", 1), ("resid_post", 2), ("mlp_out", 2)])
def test_traces_equal_plain_hooks(over, window):
    hf, _ = architectures.build("llama")
    tokens = torch.randint(5, architectures.VOCABULARY, (3, 6), generator=torch.Generator().manual_seed(1))
    answer = torch.tensor([9, 10, 11])
    seeds, sigma = (3, 8), 1.5
    result = ck.patching.trace(
        ck.Model(hf), tokens, answer, subject=[1, 2], over=over, window=window, sigma=sigma, seeds=seeds, progress=False
    )
    embedded = hf.model.embed_tokens(tokens)
    draws = [torch.randn(embedded.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    draws = [draw * sigma * embedded.std() for draw in draws]
    modules = [layer if over == "resid_post" else layer.mlp for layer in hf.model.layers]
    for first, position in product(range(3 - window + 1), range(6)):
        restored = modules[first : first + window]
        by_seed = [traced_by_hand(hf, tokens, [1, 2], noise, answer, restored, position) for noise in draws]
        expected = torch.stack(by_seed).mean(0)
        torch.testing.assert_close(result.per_example[first, position], expected, atol=1e-5, rtol=1e-4)
    corrupt = torch.stack([traced_by_hand(hf, tokens, [1, 2], noise, answer, [], 0) for noise in draws]).mean(0)
    torch.testing.assert_close(result.baseline.corrupt, corrupt, atol=1e-5, rtol=1e-4)
    assert result.provenance["noise_seeds"] == [3, 8] and result.provenance["sigma"] == 1.5
    assert result.provenance["noise_deviation"] == pytest.approx(float(sigma * embedded.std()), rel=1e-5)


def test_a_subject_is_found_by_its_text():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    prompts = ["w7 w8 w9 w20 w21", "w30 w7 w8 w31 w32"]
    by_text = ck.patching.trace(model, prompts, subject=["w8 w9", "w7 w8"], seeds=[0], progress=False)
    by_place = ck.patching.trace(model, prompts, subject=[1, 2], seeds=[0], progress=False)
    torch.testing.assert_close(by_text.per_example, by_place.per_example)
    from_end = ck.patching.trace(model, prompts, subject=[-4, -3], seeds=[0], progress=False)
    torch.testing.assert_close(from_end.per_example, by_place.per_example)


def test_a_subject_is_a_span_with_a_place_of_its_own_in_each_prompt():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    prompts, answers = ["w7 w8 w9 w20 w21", "w30 w31 w32 w7 w8"], [" w40", " w41"]
    arguments = {"seeds": [0], "metric": "log_probability", "progress": False}
    together = ck.patching.trace(model, prompts, answers, subject=ck.Span.of_text("w7 w8"), **arguments)
    by_text = ck.patching.trace(model, prompts, answers, subject="w7 w8", **arguments)
    assert torch.equal(together.per_example, by_text.per_example)
    # The noise is the same whichever tokens it falls on, so that one row says nothing of another.
    for row, places in enumerate(([0, 1], [3, 4])):
        alone = ck.patching.trace(model, prompts, answers, subject=places, **arguments)
        torch.testing.assert_close(alone.baseline.corrupt[row], together.baseline.corrupt[row], atol=1e-5, rtol=1e-5)
    pairs = ck.Pairs(prompts, prompts, answers)
    of_pairs = ck.patching.trace(model, pairs, subject=ck.Span.of_text("w7 w8"), **arguments)
    assert torch.equal(of_pairs.per_example, together.per_example)


def test_whole_answers_and_padded_prompts():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    rows, answers = [[20, 21, 22, 23], [24, 25]], [[9, 10], [11, 12, 13]]
    together = ck.patching.trace(
        model, rows, answers, subject=[0], positions=[0, 1], seeds=[0], metric="log_probability", progress=False
    )
    assert torch.isfinite(together.per_example).all()
    # All that the noise reached at the first layer is restored with the subject's own state.
    torch.testing.assert_close(
        ck.patching.trace(
            model,
            rows,
            answers,
            subject=[0],
            over="resid_pre",
            positions=[0],
            seeds=[0],
            metric="log_probability",
            progress=False,
        ).per_example[0, 0],
        together.baseline.clean,
        atol=1e-5,
        rtol=1e-5,
    )


def test_a_planted_subject_is_traced_to_where_it_stands():
    plant = planted.build("planted-induction-gpt2")
    drawn = plant.pairs(6, seed=3, length=10)
    prompts, answer = drawn.clean[:1], drawn.answer[:1]
    places = (prompts[0] == prompts[0, -1]).nonzero().flatten().tolist()
    # Embeddings hold a large constant, so a tenth of their deviation drowns a word's code.
    result = ck.patching.trace(
        ck.load(plant.name), prompts, answer, subject=[places[0]], sigma=0.1, seeds=range(5), progress=False
    )
    # The previous-token head's layer moves the subject one place on, the induction heads' to the last token.
    strongest = result.normalised.argmax(-1).tolist()
    assert strongest == [places[0] + 1] * 2 + [9] * 3 and plant.circuit["previous"][0] == 0
    assert (result.normalised.amax(-1) > 0.7).all()


def test_what_cannot_be_traced_is_named():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    for arguments, message in [
        ({"subject": "w9"}, "row 0 has no 'w9'"),
        ({"subject": ck.Span.of_text("w9")}, "row 0 has no 'w9'"),
        ({"subject": ["w5", "w6"]}, "2 subjects for 1 prompts"),
        ({"subject": ["w5", 1]}, "by one of them alone"),
        ({"subject": []}, "no subject"),
        ({"subject": [7]}, "position 7 does not exist"),
        ({"subject": "w5", "sigma": 0.0}, "needs noise"),
        ({"subject": "w5", "seeds": []}, "needs noise"),
    ]:
        with pytest.raises((PromptError, SpanError), match=message):
            ck.patching.trace(model, ["w5 w6 w7"], progress=False, **arguments)
    with pytest.raises(SpanError, match="the model has no tokenizer"):
        ck.patching.trace(ck.Model(hf), torch.tensor([[5, 6, 7]]), subject="w5", progress=False)


def test_models_that_run_whole_are_traced_the_same():
    hf, _ = architectures.build("llama")
    tokens = torch.randint(5, architectures.VOCABULARY, (2, 5), generator=torch.Generator().manual_seed(1))
    arguments = {"subject": [1], "over": "mlp_out", "window": 2, "seeds": [0], "progress": False}
    resumed = ck.patching.trace(ck.Model(hf), tokens, **arguments)
    other, _ = architectures.build("llama")
    # As of Gemma 3n, whose last layers read keys of earlier ones: the noise then has to be in every layer.
    other.config.num_kv_shared_layers = 1
    with pytest.warns(UserWarning, match="every run has to be whole"):
        whole = ck.patching.trace(ck.Model(other), tokens, **arguments)
    torch.testing.assert_close(whole.per_example, resumed.per_example, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("over", ["resid_post", "mlp_out"])
@pytest.mark.parametrize(("layers", "labels"), [([2, 0], ("0, 2",)), ([2, 0, 1], ("0–1", "1–2"))])
def test_layers_in_any_order_are_the_models_and_a_window_takes_those_named(over, layers, labels):
    hf, _ = architectures.build("llama")
    tokens, answer = torch.tensor([[6, 7, 8, 9, 10]]), torch.tensor([11])
    result = ck.patching.trace(
        ck.Model(hf), tokens, answer, subject=[1], over=over, layers=layers, window=2, seeds=[0], progress=False
    )
    embedded = hf.model.embed_tokens(tokens)
    noise = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(0)) * 3 * embedded.std()
    modules = [layer if over == "resid_post" else layer.mlp for layer in hf.model.layers]
    ascending = sorted(layers)
    for number, window in enumerate(pairwise(ascending)):
        for position in range(5):
            restored = [modules[layer] for layer in window]
            expected = traced_by_hand(hf, tokens, [1], noise, answer, restored, position)
            torch.testing.assert_close(result.per_example[number, position], expected, atol=1e-5, rtol=1e-4)
    assert result.coordinates["layer"] == tuple(ascending[:-1])
    assert result.labels["layer"] == labels


def test_a_layer_that_is_named_twice_is_refused():
    model, tokens = ck.Model(architectures.build("llama")[0]), [[6, 7, 8, 9, 10]]
    with pytest.raises(SiteError, match="layer 1 is named twice"):
        ck.patching.trace(model, tokens, [[11]], subject=[1], layers=[1, 0, 1], window=2, seeds=[0], progress=False)
    pairs = ck.Pairs(tokens, [[6, 7, 8, 9, 12]], [[3]], [[4]])
    with pytest.raises(SiteError, match="layer 2 is named twice"):
        ck.patching.sweep(model, pairs, over="mlp_out", layers=[2, -1], progress=False)
