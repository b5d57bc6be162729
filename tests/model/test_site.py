"""A site's text, and TransformerLens's names for it."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit import Site
from circuitkit.model import KINDS, SiteError

numbers = st.none() | st.integers(-3, 40)


@st.composite
def sites(draw) -> Site:
    if draw(st.integers(0, 9)) == 0:
        path = draw(st.sampled_from(["lm_head", "model.layers.3.mlp", "transformer.h.0.attn.c_attn"]))
        return Site(module=path, end=draw(st.sampled_from(["input", "output"])), position=draw(numbers))
    kind = draw(st.sampled_from(KINDS))
    head = draw(st.none() | st.integers(0, 40)) if kind in ("q", "k", "v", "z", "scores", "pattern") else None
    key = draw(numbers) if kind in ("scores", "pattern") else None
    layer = None if kind == "embed" else draw(numbers)
    return Site(kind, layer=layer, head=head, position=draw(numbers), key=key)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(sites())
def test_a_sites_text_names_the_same_site(site):
    assert Site.parse(str(site)) == site
    assert Site.parse(site) is site
    assert hash(Site.parse(str(site))) == hash(site)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hook_resid_pre", "resid_pre"),
        ("hook_resid_mid", "resid_mid"),
        ("hook_resid_post", "resid_post"),
        ("hook_attn_out", "attn_out"),
        ("hook_mlp_out", "mlp_out"),
        ("attn.hook_q", "q"),
        ("attn.hook_k", "k"),
        ("attn.hook_v", "v"),
        ("attn.hook_z", "z"),
        ("attn.hook_attn_scores", "scores"),
        ("attn.hook_pattern", "pattern"),
        ("attn.q.hook_out", "q"),
        ("attn.o.hook_in", "z"),
    ],
)
def test_transformer_lens_names_are_read(name, kind):
    assert Site.parse(f"blocks.12.{name}") == Site(kind, layer=12)


def test_names_without_a_layer_stand_for_all():
    assert Site.parse("hook_embed") == Site("embed")
    assert Site.parse("z") == Site("z")
    assert Site.parse("z[head=3]") == Site("z", head=3)


@pytest.mark.parametrize(
    "text",
    ["", "zz", "blocks.x.attn.hook_z", "blocks.3.attn.hook_rot_q", "z[3]", "z[layer=]", "z[layer=1.5]", "z[layer=3"],
)
def test_what_names_no_site_is_refused(text):
    with pytest.raises(SiteError, match=r"names no site|is not an axis"):
        Site.parse(text)


def test_the_place_of_a_site_is_its_whole_tensor():
    site = Site("pattern", layer=3, head=5, position=-1, key=0)
    assert site.place == Site("pattern", layer=3)
    assert site.at(head=None) == Site("pattern", layer=3, position=-1, key=0)


@pytest.mark.parametrize("axis", ["layer", "head", "position", "key"])
@pytest.mark.parametrize("number", ["1", 2.5, 2.0, True, [1], np.float32(1), np.True_, (0, 1)])
def test_an_axis_by_what_is_no_integer_is_refused(axis, number):
    with pytest.raises(SiteError, match=re.escape(f"{axis}={number!r} is no integer")):
        Site("pattern", **{axis: number})
    if axis == "position":
        with pytest.raises(SiteError, match="is no integer"):
            Site(module="lm_head", position=number)


@pytest.mark.parametrize("number", [np.int64(1), np.uint8(1), torch.tensor(1)])
def test_integers_of_other_kinds_are_pythons(number):
    site = Site("pattern", layer=number, head=number, position=number, key=number)
    assert site == Site("pattern", layer=1, head=1, position=1, key=1)
    assert str(site) == "pattern[layer=1, head=1, position=1, key=1]"
    assert type(site.layer) is int
