"""Ways of ablating against plain hooks: scaling, means over a reference set and by position."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.model import PromptError


def z_of(hf, tokens, layer: int) -> torch.Tensor:
    kept = {}
    projection = hf.model.layers[layer].self_attn.o_proj
    hook = projection.register_forward_pre_hook(lambda m, args: kept.update(z=args[0].clone()))
    hf(tokens)
    hook.remove()
    return kept["z"].unflatten(-1, (4, -1))


def by_hand(hf, tokens, edits) -> torch.Tensor:
    """Last logits with heads' inputs to the output projection edited, by plain hooks; edits: (layer, head) -> f(z)."""
    hooks = []
    for (layer, head), edit in edits.items():

        def ablate(module, args, head=head, edit=edit):
            z = args[0].clone().unflatten(-1, (4, -1))
            z[:, :, head] = edit(z[:, :, head])
            return (z.flatten(-2),)

        hooks.append(hf.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(ablate))
    logits = hf(tokens).logits[:, -1]
    for hook in hooks:
        hook.remove()
    return logits


def difference(logits: torch.Tensor, pairs: ck.Pairs) -> torch.Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, pairs.answer] - logits[rows, pairs.distractor]


def drawn(n: int = 4, length: int = 6, seed: int = 2) -> ck.Pairs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, architectures.VOCABULARY, (n, length), generator=generator)
    ids = torch.randint(5, architectures.VOCABULARY, (n, 2), generator=generator)
    return ck.Pairs(tokens, tokens.flip(1), ids[:, 0], ids[:, 1])


@settings(max_examples=8)
@given(
    factor=st.floats(-2, 3),
    layer=st.integers(0, 2),
    head=st.integers(0, 3),
    other=st.integers(0, 11),
    n=st.integers(1, 4),
)
def test_scaled_sets_equal_plain_hooks(factor, layer, head, other, n):
    hf, _ = architectures.build("llama")
    pairs = drawn(n)
    heads = sorted({(layer, head), (other // 4, other % 4)})
    joint = ck.ablation.sets(ck.Model(hf), pairs, [heads], "scale", factor=factor, controls=0, progress=False)
    expected = difference(by_hand(hf, pairs.clean, {head: lambda z: z * factor for head in heads}), pairs)
    torch.testing.assert_close(joint.result.per_example[0], expected, atol=2e-5, rtol=1e-4)


def test_a_mean_over_reference_prompts():
    hf, _ = architectures.build("llama")
    pairs, reference = drawn(), drawn(7, 9, seed=5).clean
    result = ck.ablation.sweep(ck.Model(hf), pairs, [(1, 2)], "mean", reference=reference, progress=False)
    value = z_of(hf, reference, 1)[:, :, 2].mean((0, 1))
    expected = difference(by_hand(hf, pairs.clean, {(1, 2): value.expand_as}), pairs)
    torch.testing.assert_close(result.per_example[1, 2], expected, atol=1e-5, rtol=1e-4)


def test_a_mean_by_position_of_prompts_of_several_lengths():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    reference, rows = [[7, 8, 9, 10], [11, 12], [13, 14, 15]], [[20, 21, 22], [23, 24]]
    z = [z_of(hf, torch.tensor([row]), 1)[0, :, 0] for row in reference]
    means = [torch.stack([each[at] for each in z if len(each) > at]).mean(0) for at in range(4)]
    edits = ck.ablation.ablate(model, rows, [(1, 0)], "mean", reference=reference, by_position=True)
    logits = model.run(rows, edits, logits_at=-1).logits
    for row, ours in zip(rows, logits, strict=True):
        value = torch.stack(means[: len(row)])
        expected = by_hand(hf, torch.tensor([row]), {(1, 0): lambda z, value=value: value[None]})[0]
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_resampling_from_reference_prompts():
    hf, _ = architectures.build("llama")
    pairs, reference = drawn(), drawn(3, 6, seed=5).clean
    [edit] = ck.ablation.ablate(ck.Model(hf), pairs.clean, [(0, 1)], "resample", reference=reference)
    z = z_of(hf, reference, 0)[:, :, 1]
    assert all(any(torch.allclose(row, each, atol=1e-6) for each in z) for row in edit.value)


def test_settings_that_a_way_does_not_have_are_refused():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn()
    for wrong, message in [
        ({"how": "scale"}, "factor goes with how='scale'"),
        ({"how": "zero", "factor": 0.5}, "factor goes with how='scale'"),
        ({"how": "resample", "by_position": True}, "by_position tells how a mean is taken"),
        ({"how": "zero", "reference": pairs.clean}, "reference has no use"),
    ]:
        with pytest.raises(ValueError, match=message):
            ck.ablation.sweep(model, pairs, progress=False, **wrong)
    with pytest.raises(PromptError, match="says nothing of position 5"):
        ck.ablation.sweep(model, pairs, how="mean", reference=pairs.clean[:, :4], by_position=True, progress=False)
