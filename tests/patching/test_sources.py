"""Windows, sets and sources of patched values, against loops of plain hooks."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.model import PromptError, SiteError


def drawn(n: int = 3, length: int = 6, seed: int = 4) -> ck.Pairs:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.randint(5, architectures.VOCABULARY, (n, length), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2] = (corrupt[:, 2] + 7) % 60 + 5
    ids = torch.randint(5, architectures.VOCABULARY, (n, 2), generator=generator)
    return ck.Pairs(clean, corrupt, ids[:, 0], ids[:, 1])


def difference(logits: torch.Tensor, pairs: ck.Pairs) -> torch.Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, -1, pairs.answer] - logits[rows, -1, pairs.distractor]


def mlp_outputs(hf, tokens) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    hooks = [layer.mlp.register_forward_hook(lambda m, a, out: kept.append(out.clone())) for layer in hf.model.layers]
    hf(tokens)
    for hook in hooks:
        hook.remove()
    return kept


def patched_mlps(hf, tokens, values: dict[int, torch.Tensor], position: int) -> torch.Tensor:
    hooks = []
    for layer, value in values.items():

        def patch(module, args, out, value=value):
            out = out.clone()
            out[:, position] = value[:, position]
            return out

        hooks.append(hf.model.layers[layer].mlp.register_forward_hook(patch))
    logits = hf(tokens).logits
    for hook in hooks:
        hook.remove()
    return logits


@settings(max_examples=6)
@given(window=st.integers(1, 3), n=st.integers(1, 3), length=st.integers(4, 7), seed=st.integers(0, 99))
def test_windows_equal_plain_hooks(window, n, length, seed):
    hf, _ = architectures.build("llama")
    pairs = drawn(n, length, seed)
    result = ck.patching.sweep(ck.Model(hf), pairs, over="mlp_out", window=window, progress=False)
    assert result.coordinates["layer"] == tuple(range(3 - window + 1))
    kept = mlp_outputs(hf, pairs.clean)
    for first, position in product(range(3 - window + 1), range(length)):
        values = {layer: kept[layer] for layer in range(first, first + window)}
        expected = difference(patched_mlps(hf, pairs.corrupt, values, position), pairs)
        torch.testing.assert_close(result.per_example[first, position], expected, atol=1e-5, rtol=1e-4)
    if window > 1:
        assert result.labels["layer"][0] == f"0–{window - 1}"


def test_sets_of_sites_are_patched_together():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    sets = {
        "late MLPs": ["mlp_out[layer=1, position=2]", "mlp_out[layer=2, position=2]"],
        "one": ["z[layer=0, head=1]"],
    }
    result = ck.patching.sweep(model, pairs, sets=sets, progress=False)
    assert result.axes == ("set",) and result.frame["set_label"].tolist() == ["late MLPs", "one"]
    window = ck.patching.sweep(model, pairs, "mlp_out", layers=[1, 2], window=2, positions=[2], progress=False)
    torch.testing.assert_close(result.per_example[0], window.per_example[0, 0])
    heads = ck.patching.sweep(model, pairs, "z", progress=False)
    torch.testing.assert_close(result.per_example[1], heads.per_example[0, 1])


def test_values_from_other_prompts_a_mean_and_given_tensors():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    others = drawn(3, 6, seed=9).clean
    kept = mlp_outputs(hf, others)
    sources = {
        "rows": ({"source": others}, kept),
        "one": ({"source": others[:1]}, [each[:1].expand(3, -1, -1) for each in kept]),
        "mean": ({"source": "mean", "reference": others}, [each.mean(0).expand(3, -1, -1) for each in kept]),
        "pair mean": ({"source": "mean"}, [each.mean(0).expand(3, -1, -1) for each in mlp_outputs(hf, pairs.clean)]),
        "tensors": ({"source": {ck.Site("mlp_out", layer=at): kept[at] for at in range(3)}}, kept),
        "row of tensors": (
            {"source": {ck.Site("mlp_out", layer=at): kept[at][:1] for at in range(3)}},
            [each[:1].expand(3, -1, -1) for each in kept],
        ),
        "cache": ({"source": model.run(others, capture=["mlp_out"]).cache}, kept),
    }
    for name, (arguments, values) in sources.items():
        result = ck.patching.sweep(model, pairs, "mlp_out", progress=False, **arguments)
        for layer, position in product(range(3), range(6)):
            expected = difference(patched_mlps(hf, pairs.corrupt, {layer: values[layer]}, position), pairs)
            torch.testing.assert_close(
                result.per_example[layer, position], expected, atol=1e-5, rtol=1e-4, msg=lambda m, name=name: name + m
            )


def test_heads_take_values_from_given_wholes():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    cache = model.run(pairs.clean, capture=["z"]).cache
    given_values = ck.patching.sweep(model, pairs, "z", source=dict(cache), progress=False)
    own = ck.patching.sweep(model, pairs, "z", progress=False)
    torch.testing.assert_close(given_values.per_example, own.per_example)


def test_what_does_not_fit_is_named():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    for arguments, error, message in [
        ({"over": "resid_pre", "window": 4}, SiteError, "window of 4 layers does not fit the 3"),
        ({"over": "z", "window": 2}, SiteError, "name sets of heads instead"),
        ({"over": "z", "sets": [["z"]]}, SiteError, "sets name their sites themselves"),
        ({"sets": [[]]}, SiteError, "is empty"),
        ({"source": pairs.clean[:, :4]}, ValueError, "positions do not correspond"),
        ({"source": pairs.clean[:2]}, ValueError, "2 prompts for 3 pairs"),
        ({"reference": pairs.clean}, ValueError, "source='mean' alone"),
        ({"source": "mean", "reference": pairs.clean[:, :4]}, ValueError, "4 to 6 tokens"),
        ({"over": "z", "source": {ck.Site("mlp_out", layer=0): torch.zeros(3, 6, 32)}}, ValueError, "not captured"),
        ({"source": model.run(pairs.clean[:, :4], capture=["resid_pre"]).cache}, ValueError, "do not correspond"),
    ]:
        with pytest.raises(error, match=message):
            ck.patching.sweep(model, pairs, progress=False, **arguments)


@pytest.mark.parametrize("position", [6, -7])
def test_a_position_that_a_prompt_lacks_is_told_with_the_prompt(position):
    model = ck.Model(architectures.build("llama")[0])
    pairs = ck.Pairs(
        [[6, 7, 8, 9, 10, 11, 12], [6, 7, 8, 9, 10, 11]],
        [[5, 7, 8, 9, 10, 11, 12], [5, 7, 8, 9, 10, 11]],
        [[3], [3]],
        [[4], [4]],
    )
    told = rf"position {position} does not exist in prompt 1, which has 6 tokens.*: 5 \| 7 \| 8 \| 9 \| 10 \| 11"
    with pytest.raises(PromptError, match=told):
        ck.patching.sweep(model, pairs, positions=[0, position], progress=False)
