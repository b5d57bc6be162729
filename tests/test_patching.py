"""Sweeps against a loop of plain hooks, TransformerLens's own sweeps, and planted circuits."""

from functools import cache

import pytest
import torch
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit.model import SiteError, planted
from circuitkit.results import Result


def drawn_pairs(n: int = 3, length: int = 7) -> ck.Pairs:
    generator = torch.Generator().manual_seed(4)
    clean = torch.randint(5, architectures.VOCABULARY, (n, length), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2] = (corrupt[:, 2] + 7) % 60 + 5
    ids = torch.randint(5, architectures.VOCABULARY, (n, 2), generator=generator)
    return ck.Pairs(clean, corrupt, ids[:, 0], ids[:, 1])


def difference(logits: Tensor, pairs: ck.Pairs) -> Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, -1, pairs.answer] - logits[rows, -1, pairs.distractor]


@pytest.mark.parametrize(
    ("direction", "base", "source"), [("denoise", "corrupt", "clean"), ("noise", "clean", "corrupt")]
)
def test_resid_pre_equals_a_loop_of_plain_hooks(direction, base, source):
    hf, _ = architectures.build("llama")
    pairs = drawn_pairs()
    result = ck.patching.sweep(ck.Model(hf), pairs, over="resid_pre", direction=direction, progress=False)
    assert result.axes == ("layer", "position")
    kept: dict[int, Tensor] = {}
    hooks = [
        block.register_forward_pre_hook(lambda m, args, at=at: kept.update({at: args[0].clone()}))
        for at, block in enumerate(hf.model.layers)
    ]
    hf(getattr(pairs, source))
    for hook in hooks:
        hook.remove()
    for layer, block in enumerate(hf.model.layers):
        for position in range(7):

            def patch(module, args, layer=layer, position=position):
                stream = args[0].clone()
                stream[:, position] = kept[layer][:, position]
                return (stream, *args[1:])

            hook = block.register_forward_pre_hook(patch)
            expected = difference(hf(getattr(pairs, base)).logits, pairs)
            hook.remove()
            torch.testing.assert_close(result.per_example[layer, position], expected, atol=1e-5, rtol=1e-5)
    assert result.baseline.clean_mean == pytest.approx(
        difference(hf(pairs.clean).logits, pairs).mean().item(), abs=1e-5
    )


BY_POSITION = range(7)
# Without resid_mid: its bridge patches the second norm's input, which does not reach the stream that passes the MLP by.
TRANSFORMER_LENS = [
    ("resid_pre", "resid_pre", None),
    ("attn_out", "attn_out", None),
    ("mlp_out", "mlp_out", None),
    ("attn_head_out_all_pos", "z", None),
    ("attn_head_q_all_pos", "q", None),
    ("attn_head_k_all_pos", "k", None),
    ("attn_head_v_all_pos", "v", None),
    ("attn_head_pattern_all_pos", "pattern", None),
    ("attn_head_out_by_pos", "z", BY_POSITION),
    ("attn_head_q_by_pos", "q", BY_POSITION),
    ("attn_head_k_by_pos", "k", BY_POSITION),
    ("attn_head_v_by_pos", "v", BY_POSITION),
    ("attn_head_pattern_by_pos", "pattern", BY_POSITION),
]


@pytest.fixture(scope="module")
def bridged(tmp_path_factory):
    from transformer_lens.model_bridge import TransformerBridge

    @cache
    def boot(name: str):
        bridge = TransformerBridge.boot_transformers(str(architectures.folder(name, tmp_path_factory.mktemp(name))))
        return bridge, bridge.run_with_cache(drawn_pairs().clean)[1]

    return boot


@pytest.mark.parametrize(("theirs", "over", "positions"), TRANSFORMER_LENS)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_sweeps_equal_transformer_lens(name, theirs, over, positions, bridged):
    from transformer_lens import patching

    pairs, (bridge, clean) = drawn_pairs(), bridged(name)
    expected = getattr(patching, f"get_act_patch_{theirs}")(
        bridge, pairs.corrupt, clean, lambda logits: difference(logits, pairs).mean()
    )
    hf, _ = architectures.build(name)
    ours = ck.patching.sweep(ck.Model(hf), pairs, over=over, positions=positions, progress=False).values
    if positions is not None and over != "pattern":
        # Theirs has the position before the head, but for patterns.
        expected = expected.transpose(1, 2)
    torch.testing.assert_close(ours, expected.to(ours), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["embed", "resid_mid", "q", "k", "v", "scores", "attn_out"])
def test_other_kinds_have_the_axes_that_they_should(kind):
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn_pairs()
    if kind == "embed":
        with pytest.raises(SiteError, match="one kind in all layers"):
            ck.patching.sweep(model, pairs, over=kind, progress=False)
        return
    result = ck.patching.sweep(model, pairs, over=kind, layers=[1], progress=False)
    n_heads = {"k": 2, "v": 2, "q": 4, "scores": 4}.get(kind)
    assert tuple(result.values.shape) == ((1, 7) if n_heads is None else (1, n_heads))
    assert result.frame["layer"].tolist() == [1] * result.values.numel()


def test_heads_that_a_layer_lacks_are_nan_and_absent():
    hf, _ = architectures.build("openelm_style")
    model = ck.Model(hf)
    result = ck.patching.sweep(model, drawn_pairs(), over="z", progress=False)
    counts = [model.n_heads(layer) for layer in range(model.n_layers)]
    assert len(set(counts)) > 1, "the model is there for its different head counts"
    for layer, count in enumerate(counts):
        assert result.values[layer, :count].isfinite().all() and result.values[layer, count:].isnan().all()
    assert len(result.frame) == sum(counts)


def test_head_by_position_sums_up_over_one_position():
    hf, _ = architectures.build("gpt2")
    result = ck.patching.sweep(ck.Model(hf), drawn_pairs(), over="z", positions=[2, -1], progress=False)
    assert result.axes == ("layer", "head", "position")
    assert result.coordinates["position"] == (2, -1)
    before = ck.patching.sweep(ck.Model(hf), drawn_pairs(), over="z", positions=[0, 1], progress=False)
    torch.testing.assert_close(before.per_example, before.baseline.corrupt.expand_as(before.per_example))


def test_kl_is_held_against_the_clean_run():
    hf, _ = architectures.build("gpt2")
    result = ck.patching.sweep(ck.Model(hf), drawn_pairs(), over="resid_pre", metric="kl", progress=False)
    torch.testing.assert_close(result.baseline.clean, torch.zeros(3), atol=1e-6, rtol=0)
    assert (result.baseline.corrupt > 0).all()
    # The corrupted token's stream, restored at the bottom, restores everything.
    torch.testing.assert_close(result.per_example[0, 2], torch.zeros(3), atol=1e-5, rtol=0)


def test_whole_answers_are_teacher_forced():
    hf, _ = architectures.build("llama")
    base = drawn_pairs()
    answer = torch.tensor([[11, 12], [13, 14], [15, 16]])
    pairs = ck.Pairs(base.clean, base.corrupt, answer)
    result = ck.patching.sweep(ck.Model(hf), pairs, over="z", metric="log_probability", progress=False)
    logits = hf(torch.cat([base.clean, answer[:, :1]], 1)).logits[:, -2:].log_softmax(-1)
    expected = logits.gather(-1, answer[..., None]).sum((1, 2))
    torch.testing.assert_close(result.baseline.clean, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="negative positions would count the answer"):
        ck.patching.sweep(ck.Model(hf), pairs, over="z", metric="log_probability", positions=[-1], progress=False)


@cache
def planted_sweep(name: str, over: str = "z") -> tuple[planted.Planted, Result]:
    plant = planted.build(name)
    drawn = plant.pairs(16, seed=1)
    pairs = ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
    return plant, ck.patching.sweep(ck.load(name), pairs, over=over, progress=False)


@pytest.mark.parametrize("name", planted.names())
def test_exactly_the_planted_heads_are_found(name):
    plant, result = planted_sweep(name)
    strong = result.frame[result.frame["significant"] & (result.frame["normalised"] > 0.05)]
    assert set(zip(strong["layer"], strong["head"], strict=True)) == set(plant.heads)
    # Nothing but the planted heads survives the correction, however small its effect.
    significant = result.frame[result.frame["significant"]]
    assert set(zip(significant["layer"], significant["head"], strict=True)) == set(plant.heads)
    rest = result.normalised.clone()
    for layer, head in plant.heads:
        rest[layer, head] = 0
    assert rest.abs().max() < 0.02


def test_a_planted_pattern_is_found_where_its_keys_change():
    plant, result = planted_sweep("planted-induction-gpt2", "pattern")
    strongest = {(row["layer"], row["head"]) for row in result.top(2).to_dict("records")}
    assert strongest == {plant.circuit["induction"], plant.circuit["saturated"]}


def test_an_unknown_direction_or_kind_is_refused():
    hf, _ = architectures.build("gpt2")
    with pytest.raises(ValueError, match="'denoise' or 'noise'"):
        ck.patching.sweep(ck.Model(hf), drawn_pairs(), direction="both")
    with pytest.raises(SiteError, match="names no site"):
        ck.patching.sweep(ck.Model(hf), drawn_pairs(), over="residual")


def test_a_result_names_where_it_comes_from(tmp_path):
    hf, _ = architectures.build("gpt2")
    result = ck.patching.sweep(ck.Model(hf, name="tiny"), drawn_pairs(), over="z", progress=False, seed=5)
    told = result.provenance
    assert told["model"] == "tiny" and told["seed"] == 5 and len(told["data_sha256"]) == 64 and told["over"] == "z"
    again = Result.load(result.save(tmp_path / "heads.safetensors"))
    torch.testing.assert_close(again.per_example, result.per_example)
