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
# Its sweeps over activations; those over direct paths are in patching/test_path_patching.
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


@pytest.mark.parametrize("name", [pytest.param("gpt2", marks=pytest.mark.slow), "llama"])
def test_single_edges_equal_transformer_lens(name, bridged):
    from transformer_lens import patching

    pairs, (bridge, clean) = drawn_pairs(), bridged(name)
    theirs = patching.get_act_patch_attn_head_pattern_dest_src_pos(
        bridge, pairs.corrupt, clean, lambda logits: difference(logits, pairs).mean()
    )
    hf, _ = architectures.build(name)
    ours = ck.patching.sweep(
        ck.Model(hf), pairs, over="pattern", positions=BY_POSITION, keys=BY_POSITION, progress=False
    )
    assert ours.axes == ("layer", "head", "query", "key")
    there = torch.ones(7, 7).tril().bool()
    torch.testing.assert_close(ours.values[..., there], theirs[..., there].to(ours.values), atol=1e-4, rtol=1e-4)
    # Theirs puts the nothing of a later key in the place of nothing; ours has no such cell.
    assert ours.values[..., ~there].isnan().all() and len(ours.frame) == 3 * 4 * 28
    unchanged = torch.full_like(theirs[..., ~there], ours.baseline.corrupt_mean)
    torch.testing.assert_close(theirs[..., ~there], unchanged, atol=1e-4, rtol=1e-4)


# Those over all kinds of a head's or a block's activations, in their order.
STACKED = {
    "attn_head_all_pos_every": (("z", "q", "k", "v", "pattern"), None),
    "attn_head_by_pos_every": (("z", "q", "k", "v", "pattern"), BY_POSITION),
    "block_every": (("resid_pre", "attn_out", "mlp_out"), None),
}


# Each of the kinds alone is held against theirs above.
@pytest.mark.slow
@pytest.mark.parametrize("theirs", STACKED)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_stacked_sweeps_equal_transformer_lens(name, theirs, bridged):
    from transformer_lens import patching

    pairs, (bridge, clean) = drawn_pairs(), bridged(name)
    stacked = getattr(patching, f"get_act_patch_{theirs}")(
        bridge, pairs.corrupt, clean, lambda logits: difference(logits, pairs).mean()
    )
    kinds, positions = STACKED[theirs]
    hf, _ = architectures.build(name)
    for kind, expected in zip(kinds, stacked, strict=True):
        ours = ck.patching.sweep(ck.Model(hf), pairs, over=kind, positions=positions, progress=False).values
        expected = expected if positions is None else expected.transpose(1, 2)
        if kind in ("k", "v"):
            # Theirs fills up the key/value heads that grouped queries lack.
            expected = expected[:, : ours.shape[1]]
        torch.testing.assert_close(ours, expected.to(ours), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "norm"), [("gpt2", "transformer.h.{}.ln_2"), ("llama", "model.layers.{}.post_attention_layernorm")]
)
def test_what_transformer_lens_calls_resid_mid_is_the_second_norms_input(name, norm, bridged):
    from transformer_lens import patching

    pairs, (bridge, clean) = drawn_pairs(), bridged(name)
    theirs = patching.get_act_patch_resid_mid(
        bridge, pairs.corrupt, clean, lambda logits: difference(logits, pairs).mean()
    )
    model = ck.Model(architectures.build(name)[0])
    sites = [
        [ck.Site(module=norm.format(layer), end="input", position=position)]
        for layer in range(model.n_layers)
        for position in BY_POSITION
    ]
    ours = ck.patching.sweep(model, pairs, sets=sites, progress=False).values.view(theirs.shape)
    torch.testing.assert_close(ours, theirs.to(ours), atol=1e-4, rtol=1e-4)
    # The stream itself, patched there, reaches all that reads it later.
    stream = ck.patching.sweep(model, pairs, over="resid_mid", progress=False).values
    assert (stream - ours).abs().max() > 0.1


def test_no_sweep_of_transformer_lens_is_left_out():
    from transformer_lens import patching

    theirs = {name.removeprefix("get_act_patch_") for name in dir(patching) if name.startswith("get_act_patch_")}
    compared = {name for name, _, _ in TRANSFORMER_LENS} | set(STACKED)
    alone = {"resid_mid", "attn_head_pattern_dest_src_pos", "direct_path", "direct_path_all_sources"}
    assert theirs == compared | alone


def test_edges_in_sets_and_from_the_end_are_those_of_the_sweep():
    hf, tokenizer = architectures.build("llama")
    model, pairs = ck.Model(hf, tokenizer), drawn_pairs()
    for kind in ("pattern", "scores"):
        grid = ck.patching.sweep(model, pairs, over=kind, positions=[4, -1], keys=[2, -2], progress=False)
        assert grid.coordinates["query"] == (4, -1) and grid.coordinates["key"] == (2, -2)
        assert grid.values[..., 0, 1].isnan().all() and grid.values[..., 1, 1].isfinite().all()
        alone = [ck.Site(kind, 1, 2, position=6, key=5)]
        both = [*alone, f"{kind}[layer=0, head=1, position=4, key=2]"]
        sets = ck.patching.sweep(model, pairs, sets=[alone, both], progress=False)
        torch.testing.assert_close(sets.per_example[0], grid.per_example[1, 2, 1, 1], atol=1e-5, rtol=1e-5)
        assert sets.per_example[1].sub(sets.per_example[0]).abs().max() > 1e-5
    by_key = ck.patching.sweep(model, pairs, over="pattern", keys=[2], progress=False)
    assert by_key.axes == ("layer", "head", "key")
    moved = ck.attention.transplant(model, pairs, queries="all", keys=[2], progress=False)
    torch.testing.assert_close(by_key.per_example, moved.per_example, atol=1e-5, rtol=1e-5)
    # Rows of several lengths have an edge counted from their ends where one of them has it.
    rows = ck.Pairs([[5, 6, 7, 8], [9, 10]], [[5, 11, 7, 8], [12, 10]], [20, 21], [22, 23])
    uneven = ck.patching.sweep(model, rows, over="pattern", positions=[-1], keys=[1, 0], progress=False)
    assert uneven.values.isfinite().all()


def test_keys_that_no_edge_has_are_named():
    hf, _ = architectures.build("llama")
    model, pairs = ck.Model(hf), drawn_pairs()
    with pytest.raises(SiteError, match="'z' has no key axis; only 'scores' and 'pattern' have"):
        ck.patching.sweep(model, pairs, over="z", keys=[1])
    with pytest.raises(SiteError, match=r"none of the queries \[1\] comes at or behind any of the keys \[2, 3\]"):
        ck.patching.sweep(model, pairs, over="pattern", positions=[1], keys=[2, 3])
    with pytest.raises(SiteError, match="give no kind, layers, positions, keys or window"):
        ck.patching.sweep(model, pairs, sets=[["z[layer=0]"]], keys=[1])


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


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_sets_of_heads_stand_beside_random_ones(direction):
    model, pairs = ck.Model(architectures.build("llama")[0]), drawn_pairs()
    sets = {
        "one": ["z[layer=1, head=2]"],
        "key": ["k[layer=0, head=1]"],
        "stream": ["resid_pre[layer=1, position=2]"],
        "layer": ["z[layer=1]"],
    }
    result = ck.patching.sweep(model, pairs, sets=sets, direction=direction, progress=False)
    z = ck.patching.sweep(model, pairs, over="z", direction=direction, progress=False).effects
    k = ck.patching.sweep(model, pairs, over="k", direction=direction, progress=False).effects
    torch.testing.assert_close(result.controls[0], z[1, [0, 1, 3]], atol=1e-5, rtol=1e-5)
    # Of two key/value heads there is one other.
    torch.testing.assert_close(result.controls[1, 0], k[0, 0], atol=1e-5, rtol=1e-5)
    assert result.frame["control_n"].tolist() == [3, 1, 0, 0]
    for column in ("control_mean", "control_low", "control_high", "control_p"):
        assert result.frame[column].isna().tolist() == [False, False, True, True]
    assert result.frame["control_mean"][0] == pytest.approx(float(z[1, [0, 1, 3]].mean()), abs=1e-5)
    none = ck.patching.sweep(model, pairs, sets=sets, direction=direction, controls=0, progress=False)
    assert none.frame["control_n"].tolist() == [0] * 4 and none.frame["control_p"].isna().all()
    torch.testing.assert_close(none.per_example, result.per_example, atol=1e-5, rtol=1e-5)
    assert result.provenance["controls_disjoint"] == [True, True, False, False]
    for refused in ({"sets": sets}, {"over": "z"}):
        with pytest.raises(ValueError, match="0 or more, not -2"):
            ck.patching.sweep(model, pairs, controls=-2, **refused)


def test_sets_of_edges_stand_beside_the_same_edges_of_other_heads():
    model, pairs = ck.Model(architectures.build("llama")[0]), drawn_pairs()
    # The second set has no random ones, and takes explicit attention in another layer than the first.
    sets = [["pattern[layer=1, head=2, position=6, key=2]"], ["pattern[layer=2]"]]
    result = ck.patching.sweep(model, pairs, sets=sets, progress=False)
    grid = ck.patching.sweep(model, pairs, over="pattern", positions=[6], keys=[2], progress=False)
    torch.testing.assert_close(result.controls[0], grid.effects[1, [0, 1, 3], 0, 0], atol=1e-5, rtol=1e-5)
    assert result.controls[1].isnan().all()


def test_given_values_without_other_heads_leave_no_control():
    model, pairs = ck.Model(architectures.build("llama")[0]), drawn_pairs()
    site = ck.Site("z", 1, 2)
    values = {site: model.run(pairs.clean, capture=[site]).cache[site]}
    result = ck.patching.sweep(model, pairs, sets=[[site]], source=values, progress=False)
    assert result.frame["control_n"].tolist() == [0]
    whole = {ck.Site("z", 1): model.run(pairs.clean, capture=["z"]).cache[ck.Site("z", 1)]}
    assert ck.patching.sweep(model, pairs, sets=[[site]], source=whole, progress=False).frame["control_n"][0] == 3


@pytest.mark.parametrize("name", planted.names())
def test_a_planted_circuit_does_more_than_any_random_set(name, tmp_path):
    plant = planted.build(name)
    pairs = ck.Pairs(*plant.pairs(8, seed=3, length=14))
    circuit = [ck.Site("z", layer, head) for layer, head in plant.heads]
    result = ck.patching.sweep(ck.load(name), pairs, sets={"circuit": circuit}, seed=2, progress=False)
    [row] = result.frame.to_dict("records")
    assert row["control_n"] == 20 and row["control_p"] == pytest.approx(1 / 21)
    assert row["control_high"] < 0.2 * row["effect"]
    again = Result.load(result.save(tmp_path / "circuit.safetensors"))
    assert again == result and again.frame.equals(result.frame)
    same = ck.patching.sweep(ck.load(name), pairs, sets={"circuit": circuit}, seed=2, progress=False)
    assert torch.equal(same.controls, result.controls)
