"""Every intervention at every kind of site does what plain hooks spelled out by hand do."""

from functools import cache

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit import Model, Site
from circuitkit.run import InterventionError
from oracles import kinds_of
from run import by_hand

NAMES = ("gpt2", "llama", "gemma2", "bloom", "gpt_oss", "falcon", "openelm_style", "phi3", "gpt_neox", "olmo2")
OPERATIONS = ("replace", "zero", "mean", "scale", "add")
ATTENTION = ("scores", "pattern")
TOLERANCE = 1e-5


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


def columns_of(mask: Tensor, position: int) -> list[int]:
    """Each row's column of a position, by counting."""
    return [torch.nonzero(row)[position].item() for row in mask]


def reached(shape: torch.Size, mask: Tensor, site: Site) -> Tensor:
    """The numbers of a site's whole tensor that a site names, one by one."""
    chosen = torch.zeros(shape, dtype=torch.bool)
    head = slice(None) if site.head is None else site.head
    for row, real in enumerate(mask.bool()):
        columns = torch.nonzero(real).flatten().tolist()
        for column in columns if site.position is None else [columns[site.position]]:
            if site.kind in ATTENTION:
                keys = [key for key in columns if key <= column]
                if site.key is not None:
                    keys = [key for key in keys if key == columns[site.key]]
                chosen[row, head, column, keys] = True
            elif site.kind in ("q", "k", "v", "z"):
                chosen[row, column, head] = True
            else:
                chosen[row, column] = True
    return chosen


def applied(tensor: Tensor, operation: str, value: Tensor | float, where: Tensor) -> Tensor:
    new = {"scale": lambda: tensor * value, "add": lambda: tensor + value}.get(operation, lambda: value + 0 * tensor)()
    return torch.where(where, new, tensor)


def intervention_of(operation: str, site: Site, value: Tensor | float):
    if operation == "zero":
        return ck.zero(site)
    return {"replace": ck.replace, "mean": ck.mean, "scale": ck.scale, "add": ck.add}[operation](site, value)


def assert_same_logits(found: Tensor, expected: Tensor, mask: Tensor) -> None:
    found, expected = found[mask.bool()], expected[mask.bool()]
    worst = (found - expected).abs().max().item()
    assert worst <= TOLERANCE * max(1.0, expected.abs().max().item()), f"off by {worst:.1e}"


@st.composite
def cases(draw, name: str):
    model = model_of(name)
    layer = draw(st.integers(0, model.n_layers - 1))
    kind = draw(st.sampled_from(sorted(kinds_of(name) - {"logits"})))
    layer = None if kind == "embed" else layer
    head = key = None
    if kind in ("q", "z", *ATTENTION):
        head = draw(st.none() | st.integers(0, model.n_heads(layer) - 1))
    if kind in ("k", "v"):
        head = draw(st.none() | st.integers(0, model.n_kv_heads(layer) - 1))
    batch = draw(st.sampled_from(["equal", "left_padded"]))
    shortest = int(architectures.prompts(batch).real.sum(-1).min())
    positions = st.none() | st.integers(-shortest, shortest - 1)
    if kind in ATTENTION:
        key = draw(positions)
    return (
        Site(kind, layer=layer, head=head, position=draw(positions), key=key),
        batch,
        draw(st.sampled_from(OPERATIONS)),
    )


@pytest.mark.parametrize("name", NAMES)
def test_any_intervention_anywhere_is_that_of_plain_hooks(name):
    model = model_of(name)

    @settings(max_examples=50, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(case=cases(name), seed=st.integers(0, 2**16))
    def check(case, seed):
        site, batch, operation = case
        prompts, generator = architectures.prompts(batch), torch.Generator().manual_seed(seed)
        whole = model.run(prompts.input_ids, capture=[site.place], attention_mask=prompts.attention_mask).cache[
            site.place
        ]
        where = reached(whole.shape, prompts.attention_mask, site)
        if not where.any():  # a key after its query: nothing to reach, which is an error and not a silence
            with pytest.raises(InterventionError, match="never took place"):
                model.run(
                    prompts.input_ids, [intervention_of("zero", site, 0.0)], attention_mask=prompts.attention_mask
                )
            return
        value: Tensor | float = 0.0 if operation == "zero" else 1.7
        if operation in ("replace", "mean", "add") and site.kind not in ATTENTION:
            value = torch.randn(whole.shape[-1], generator=generator)
        run = model.run(
            prompts.input_ids, [intervention_of(operation, site, value)], attention_mask=prompts.attention_mask
        )
        edit = {(site.kind, site.layer): lambda tensor: applied(tensor, operation, value, where)}
        expected = by_hand.logits(model.hf, prompts.input_ids, prompts.attention_mask, edit)
        assert_same_logits(run.logits, expected, prompts.attention_mask)

    check()


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_each_axis_lands_where_it_belongs(name, batch):
    """Values with a row, a position and a head of their own, at a site that names none, one or two of them."""
    model, prompts = model_of(name), architectures.prompts(batch)
    generator = torch.Generator().manual_seed(7)
    columns = columns_of(prompts.attention_mask, -2)
    for kind in ("resid_pre", "attn_out", "mlp_out", "q", "k", "v", "z"):
        whole = model.run(prompts.input_ids, capture=[f"{kind}[layer=1]"], attention_mask=prompts.attention_mask)
        shape = whole.cache[f"{kind}[layer=1]"].shape
        value = torch.randn(shape, generator=generator)
        rows = torch.arange(len(columns))
        sites = [(Site(kind, layer=1), value), (Site(kind, layer=1, position=-2), value[rows, columns])]
        if kind in "qkvz":
            sites.append((Site(kind, layer=1, head=0), value[:, :, 0]))
            sites.append((Site(kind, layer=1, head=0, position=-2), value[rows, columns, 0]))
        for site, part in sites:
            run = model.run(prompts.input_ids, [ck.replace(site, part)], attention_mask=prompts.attention_mask)
            where = reached(shape, prompts.attention_mask, site)
            edit = {(kind, 1): lambda tensor, where=where, value=value: torch.where(where, value, tensor)}
            expected = by_hand.logits(model.hf, prompts.input_ids, prompts.attention_mask, edit)
            assert_same_logits(run.logits, expected, prompts.attention_mask)


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
@pytest.mark.parametrize("name", NAMES)
def test_a_run_patched_with_its_own_values_is_itself(name, batch):
    model, prompts = model_of(name), architectures.prompts(batch)
    kinds = sorted(kinds_of(name) - {"logits"})
    base = model.run(prompts.input_ids, capture=kinds, attention_mask=prompts.attention_mask)
    for site in base.cache:
        patched = model.run(
            prompts.input_ids, [ck.replace(site, base.cache[site])], attention_mask=prompts.attention_mask
        )
        assert_same_logits(patched.logits, base.logits, prompts.attention_mask)


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["resid_pre", "resid_post", "resid_mid", "embed"])
def test_the_whole_stream_of_another_run_carries_its_logits(name, kind, batch):
    model = model_of(name)
    if kind not in kinds_of(name):
        pytest.skip("attention and MLP read the same stream")
    clean, other = architectures.prompts(batch), architectures.prompts(batch, seed=1)
    there = model.run(other.input_ids, capture=[kind], attention_mask=other.attention_mask)
    for site in there.cache:
        patched = model.run(clean.input_ids, [ck.replace(site, there.cache[site])], attention_mask=clean.attention_mask)
        assert_same_logits(patched.logits, there.logits, clean.attention_mask)
        untouched = model.run(clean.input_ids, attention_mask=clean.attention_mask)
        assert not torch.allclose(untouched.logits[clean.real], there.logits[clean.real], atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_an_intervention_changes_nothing_before_its_position(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    settings = {"capture": ["resid_post"], "attention_mask": prompts.attention_mask}
    base = model.run(prompts.input_ids, **settings)
    changed = model.run(
        prompts.input_ids, [ck.add("resid_pre[layer=0, position=-1]", torch.randn(model.d_model))], **settings
    )
    earlier = prompts.real.clone()
    earlier[:, -1] = False
    for site in base.cache:
        before, after = base.cache[site], changed.cache[site]
        assert torch.equal(before[earlier], after[earlier])
        assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-3)


def test_a_query_and_a_key_after_it_are_no_place():
    model, prompts = model_of("llama"), architectures.prompts()
    with pytest.raises(InterventionError, match="never took place"):
        model.run(prompts.input_ids, [ck.zero("pattern[layer=1, position=2, key=5]")])


def test_masked_rows_are_no_nan_in_double_precision_either():
    """Llama computes its softmax in float32, where float64's minimum is minus infinity."""
    hf, tokenizer = architectures.build("llama")
    model, prompts = Model(hf.double(), tokenizer), architectures.prompts("left_padded")
    plain = model.run(prompts.input_ids, attention_mask=prompts.attention_mask)
    settings = {"attention_mask": prompts.attention_mask, "capture": ["pattern"]}
    through = model.run(prompts.input_ids, [ck.scale("pattern", 1.0)], **settings)
    assert not any(torch.isnan(through.cache[site]).any() for site in through.cache)
    torch.testing.assert_close(through.logits[prompts.real], plain.logits[prompts.real], atol=1e-5, rtol=1e-5)
    silenced = model.run(prompts.input_ids, [ck.knockout(1)], **settings)
    assert torch.equal(silenced.cache["pattern[layer=1]"][:, :, -1], torch.zeros(3, 4, 9, dtype=torch.float64))
