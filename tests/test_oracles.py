"""The references agree with one another, and with closed forms, on every architecture of the zoo."""

from functools import cache

import pytest
import torch
from decoders.openelm_style import OpenELMConfig, OpenELMForCausalLM
from torch import Tensor
from transformers import AutoModelForCausalLM

import architectures
from oracles import HIDDEN, PARALLEL, Captures, kinds_of, nnsight_trace, transformer_lens, transformers_eager

NAMES = architectures.NAMES
BATCHES = ("equal", "left_padded")
TOLERANCE = 1e-5


@cache
def model_of(name: str):
    return architectures.build(name)


@cache
def reference(name: str, batch: str) -> Captures:
    model, _ = model_of(name)
    prompts = architectures.prompts(batch)
    return transformers_eager.capture(model, prompts.input_ids, prompts.attention_mask)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    @cache
    def saved(name: str):
        return architectures.folder(name, tmp_path_factory.mktemp("zoo"))

    return saved


def real_rows(kind: str, value: Tensor, real: Tensor) -> Tensor:
    """The rows of real tokens, [token, …], with hidden keys' scores set to one value."""
    if kind in ("scores", "pattern"):
        value = value.transpose(1, 2)
    value = value[real]
    return value.masked_fill(value < HIDDEN, HIDDEN) if kind == "scores" else value


def assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    assert found.shape == expected.shape, f"{what}: {tuple(found.shape)} for {tuple(expected.shape)}"
    hidden = expected <= HIDDEN
    assert torch.equal(found <= HIDDEN, hidden), f"{what}: other keys are hidden"
    found, expected = found.masked_fill(hidden, 0.0), expected.masked_fill(hidden, 0.0)
    scale = max(1.0, expected.abs().max().item())
    worst = (found - expected).abs().max().item()
    assert worst <= TOLERANCE * scale, f"{what}: off by {worst:.1e} at a scale of {scale:.1f}"


def assert_agree(
    found: Captures,
    expected: Captures,
    real: Tensor,
    kinds: frozenset[str],
    shifted: frozenset[str] = frozenset(),
) -> None:
    keys = {key for key in expected if key[0] in kinds}
    assert set(found) == keys
    for kind, layer in sorted(keys, key=str):
        pair = [real_rows(kind, captures[kind, layer], real) for captures in (found, expected)]
        if kind in shifted:
            pair = [rows - rows.amax(-1, keepdim=True) for rows in pair]
            pair = [rows.masked_fill(rows < HIDDEN / 2, HIDDEN) for rows in pair]
        assert_close(pair[0], pair[1], f"{kind} of layer {layer}")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_transformer_lens_agrees_with_transformers(name, batch, folder_of):
    if name in transformer_lens.UNAVAILABLE:
        pytest.skip(transformer_lens.UNAVAILABLE[name])
    prompts = architectures.prompts(batch)
    found = transformer_lens.capture(folder_of(name), prompts.input_ids, prompts.attention_mask)
    shifted = {kind for owner, kind in transformer_lens.UP_TO_A_CONSTANT_PER_QUERY if owner == name}
    kinds = transformer_lens.supports(name)
    assert_agree(found, reference(name, batch), prompts.real, kinds, frozenset(shifted))


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_nnsight_agrees_with_transformers(name, batch):
    model, tokenizer = model_of(name)
    prompts = architectures.prompts(batch)
    found = nnsight_trace.capture(name, model, tokenizer, prompts.input_ids, prompts.attention_mask)
    assert_agree(found, reference(name, batch), prompts.real, nnsight_trace.supports(name))


@pytest.mark.parametrize("name", transformer_lens.UNAVAILABLE)
def test_what_transformer_lens_cannot_load_still_fails(name, folder_of):
    prompts = architectures.prompts()
    with pytest.raises(RuntimeError, match="split_with_sizes"):
        transformer_lens.capture(folder_of(name), prompts.input_ids, prompts.attention_mask)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_is_captured_in_every_layer(name, batch):
    captures = reference(name, batch)
    layers = range(len(transformers_eager.Recorder(model_of(name)[0]).layers))
    expected = {(kind, layer) for kind in kinds_of(name) - {"embed", "logits"} for layer in layers}
    assert set(captures) == expected | {("embed", None), ("logits", None)}


def count_hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_capturing_changes_nothing(name, batch):
    model, _ = architectures.build(name)
    prompts = architectures.prompts(batch)
    given = transformers_eager.arguments(model, prompts.attention_mask, prompts.input_ids.shape[1])
    before = model.config._attn_implementation
    untouched = model(prompts.input_ids, **given).logits
    captured = transformers_eager.capture(model, prompts.input_ids, prompts.attention_mask)
    assert model.config._attn_implementation == before
    # Transformers leaves hooks of its own the first time that it is asked for attention weights.
    hooks = count_hooks(model)
    transformers_eager.capture(model, prompts.input_ids, prompts.attention_mask)
    assert count_hooks(model) == hooks
    assert torch.equal(model(prompts.input_ids, **given).logits, untouched)
    assert_close(captured["logits", None][prompts.real], untouched[prompts.real], "logits")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_branches_add_up_to_the_stream(name, batch):
    captures, real = reference(name, batch), architectures.prompts(batch).real
    layers = {layer for _, layer in captures} - {None}
    for layer in layers:
        after_attention = captures["resid_pre", layer] + captures["attn_out", layer]
        after_both = after_attention + captures["mlp_out", layer]
        assert_close(after_both[real], captures["resid_post", layer][real], f"resid_post of layer {layer}")
        if name not in PARALLEL:
            assert_close(after_attention[real], captures["resid_mid", layer][real], f"resid_mid of {layer}")
        if layer + 1 in layers:
            assert torch.equal(captures["resid_post", layer], captures["resid_pre", layer + 1])


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_a_head_reads_the_values_by_its_pattern(name, batch):
    captures, real = reference(name, batch), architectures.prompts(batch).real
    for layer in {layer for _, layer in captures} - {None}:
        pattern, value = captures["pattern", layer], captures["v", layer]
        value = value.repeat_interleave(pattern.shape[1] // value.shape[2], dim=2)
        z = torch.einsum("bhqk,bkhd->bqhd", pattern, value)
        assert_close(z[real], captures["z", layer][real], f"z of layer {layer}")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_patterns_are_the_softmax_of_the_scores(name, batch):
    captures, real = reference(name, batch), architectures.prompts(batch).real
    for layer in {layer for _, layer in captures} - {None}:
        pattern = real_rows("pattern", captures["pattern", layer], real)
        total = pattern.sum(-1)
        scores = real_rows("scores", captures["scores", layer], real)
        if name == "gpt_oss":
            # The sink keeps what the keys do not get.
            assert (total < 1 + 1e-5).all()
            assert total.min() < 0.9, "the sinks take nothing"
            pattern = pattern / total[..., None]
        else:
            assert torch.allclose(total, torch.ones_like(total), atol=1e-5)
        assert_close(scores.softmax(-1), pattern, f"pattern of layer {layer}")
        assert (pattern[scores <= HIDDEN] == 0).all()


# Rotary positions cancel where query and key are one token. BLOOM's scores hold a bias there, gpt-oss's a shift.
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"bloom", "gpt_oss"}))
def test_a_token_scores_itself_by_its_query_and_key(name):
    model, _ = model_of(name)
    captures = reference(name, "left_padded")
    recorder = transformers_eager.Recorder(model)
    for layer, module in enumerate(recorder.layers):
        attention = module.get_submodule(recorder.paths.attention)
        query, key = captures["q", layer], captures["k", layer]
        if getattr(attention, "q_norm", None) is not None:
            query, key = (
                norm(part.reshape(*part.shape[:2], -1, norm.weight.shape[0])).reshape(part.shape)
                for norm, part in ((attention.q_norm, query), (attention.k_norm, key))
            )
        key = key.repeat_interleave(query.shape[2] // key.shape[2], dim=2)
        scores = (query * key).sum(-1) * getattr(attention, "scaling", query.shape[-1] ** -0.5)
        if name == "gemma2":
            cap = model.config.attn_logit_softcapping
            scores = cap * torch.tanh(scores / cap)
        itself = captures["scores", layer].diagonal(dim1=-2, dim2=-1).transpose(1, 2)
        real = architectures.prompts("left_padded").real
        assert_close(itself[real], scores[real], f"scores of layer {layer}")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_decoding_with_a_cache_agrees_with_running_whole(name, batch):
    model, _ = model_of(name)
    prompts = architectures.prompts(batch)
    n_new, length = 3, prompts.input_ids.shape[1]
    decoded = transformers_eager.decode(model, prompts.input_ids, prompts.attention_mask, n_new)
    generated = model.generate(
        prompts.input_ids, attention_mask=prompts.attention_mask, max_new_tokens=n_new, do_sample=False
    )
    assert torch.equal(generated[:, length:], decoded.tokens)
    mask = torch.cat([prompts.attention_mask, torch.ones_like(decoded.tokens)], dim=1)
    whole = transformers_eager.capture(model, generated, mask)
    for step, captures in enumerate(decoded.steps):
        last = length - 1 + step
        for kind, layer in captures:
            if kind == "scores":
                continue
            found, expected = captures[kind, layer], whole[kind, layer]
            if kind == "pattern":
                found, expected = found[:, :, -1], expected[:, :, last, : last + 1]
            else:
                found, expected = found[:, -1], expected[:, last]
            assert_close(found, expected, f"{kind} of layer {layer} at step {step}")


@pytest.mark.parametrize("name", NAMES)
def test_padding_moves_nothing(name):
    model, _ = model_of(name)
    prompts = architectures.prompts("left_padded")
    padded = reference(name, "left_padded")
    for row, real in enumerate(prompts.real):
        alone = transformers_eager.capture(model, prompts.input_ids[row, real][None])
        for kind in ("logits", "resid_post", "pattern"):
            layer = None if kind == "logits" else 1
            expected = padded[kind, layer][row]
            expected = expected[:, real][:, :, real] if kind == "pattern" else expected[real]
            assert_close(alone[kind, layer][0], expected, f"{kind} of row {row}")


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_far_from_trivial(name):
    captures = reference(name, "equal")
    model, _ = model_of(name)
    for layer in {layer for _, layer in captures} - {None}:
        pattern = captures["pattern", layer][:, :, -1]
        visible = (captures["scores", layer][:, :, -1] > HIDDEN).sum(-1, keepdim=True)
        assert (pattern.amax(-1, keepdim=True) * visible).mean() > 1.3, "attention is flat"
        assert pattern.amax(-1).min() < 0.99, "attention is all or nothing"
        heads = captures["z", layer].movedim(2, 0).flatten(1)
        assert torch.pdist(heads).min() > 0.5, "two heads are alike"
    vectors = {key: value for key, value in model.named_parameters() if value.dim() == 1}
    assert all(value.std() > 0.1 for value in vectors.values()), "a norm or bias is trivial"


@pytest.mark.parametrize("name", ["gemma2", "gemma3", "mistral", "gpt_oss"])
def test_windows_bite(name):
    captures = reference(name, "equal")
    seen = [
        (captures["scores", layer][0, 0, -1] > HIDDEN).sum().item()
        for layer in range(max(layer for _, layer in captures if layer is not None) + 1)
    ]
    assert architectures.WINDOW in seen
    assert name == "mistral" or architectures.prompts().input_ids.shape[1] in seen


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_folder_is_the_same_model(name, folder_of):
    model, tokenizer = model_of(name)
    loaded = AutoModelForCausalLM.from_pretrained(folder_of(name)).eval()
    prompts = architectures.prompts("left_padded")
    again = tokenizer(prompts.texts, return_tensors="pt", padding=True)
    assert torch.equal(again["input_ids"], prompts.input_ids)
    assert torch.equal(again["attention_mask"], prompts.attention_mask)
    with torch.no_grad():
        pair = [each(prompts.input_ids).logits for each in (loaded, model)]
    assert torch.equal(*pair)


def test_openelm_has_different_heads_in_different_layers():
    captures = reference("openelm_style", "equal")
    assert [captures["q", layer].shape[2] for layer in range(3)] == [4, 6, 2]
    assert [captures["k", layer].shape[2] for layer in range(3)] == [2, 3, 1]
    assert {captures["pattern", layer].shape[1] for layer in range(3)} == {2, 4, 6}


def test_openelm_may_tie_its_head_and_leave_out_the_gate():
    config = OpenELMConfig(share_input_output_layers=True, ffn_with_glu=False)
    model = OpenELMForCausalLM(config).eval()
    architectures.randomise(model, seed=1)
    prompts = architectures.prompts()
    captures = transformers_eager.capture(model, prompts.input_ids)
    normed = model.transformer.norm(captures["resid_post", config.num_transformer_layers - 1])
    assert model.lm_head is None
    assert_close(captures["logits", None], normed @ model.transformer.token_embeddings.weight.T, "logits")
    gate_free = model.transformer.layers[0].ffn
    assert gate_free.proj_1.out_features == gate_free.proj_2.in_features
