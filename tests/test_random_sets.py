"""Random sets of heads: matched in layer, kind and number, never the set itself, and their effects in their places."""

from collections import Counter
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit import Site
from circuitkit.random_sets import RandomSets


@cache
def llama() -> ck.Model:
    """Three layers of four query heads and two key/value heads."""
    return ck.Model(architectures.build("llama")[0])


def heads_of(sites: tuple[Site, ...]) -> set[tuple[int | None, bool, int | None]]:
    return {(site.layer, site.kind in ("k", "v"), site.head) for site in sites}


def any_head(kind: str) -> st.SearchStrategy[Site]:
    heads = st.integers(0, 1 if kind in ("k", "v") else 3)
    return st.builds(lambda layer, head: Site(kind, layer, head), st.integers(0, 2), heads)


sets_of_heads = st.lists(
    st.sampled_from(["z", "q", "k", "v", "pattern"]).flatmap(any_head), min_size=1, max_size=5, unique=True
).map(tuple)


@settings(max_examples=60, deadline=None)
@given(sites=sets_of_heads, draws=st.integers(1, 8), seed=st.integers(0, 99))
def test_random_sets_match_in_layer_kind_and_number_and_are_never_the_set(sites, draws, seed):
    random = RandomSets.beside(llama(), [sites], draws, seed)
    [drawn], [disjoint] = random.drawn, random.disjoint
    assert len(drawn) <= draws and len(set(map(frozenset, drawn))) == len(drawn)
    for one in drawn:
        assert Counter((site.layer, site.kind) for site in one) == Counter((site.layer, site.kind) for site in sites)
        assert len(set(one)) == len(one) and set(one) != set(sites)
        assert len(heads_of(one)) == len(heads_of(sites))
        assert all(llama().sites(site) == [site] for site in one)
        assert not disjoint or not heads_of(one) & heads_of(sites)
    assert RandomSets.beside(llama(), [sites], draws, seed).drawn == random.drawn


def test_key_and_value_heads_are_drawn_from_key_value_heads():
    random = RandomSets.beside(llama(), [(Site("k", 1, 0), Site("v", 1, 0)), (Site("q", 1, 0),)], 20, 0)
    assert random.drawn[0] == ((Site("k", 1, 1), Site("v", 1, 1)),)
    assert random.drawn[1] == tuple((Site("q", 1, head),) for head in (1, 2, 3))


def test_all_that_is_named_of_a_head_is_named_of_another():
    gpt2 = ck.Model(architectures.build("gpt2")[0])
    sites = (Site("q", 1, 2, position=3), Site("k", 1, 2, position=1), Site("z", 1, 2, position=-1))
    [drawn] = RandomSets.beside(gpt2, [sites], 20, 0).drawn
    assert drawn == tuple(tuple(site.at(head=head) for site in sites) for head in (0, 1, 3))


def test_what_is_no_head_or_leaves_no_other_has_no_random_sets():
    whole = tuple(Site("z", 0, head) for head in range(4))
    sets = [(Site("resid_pre", 1),), (Site("z", 1),), (Site("z", 1, 0), Site("mlp_out", 1)), whole]
    random = RandomSets.beside(llama(), sets, 5, 0)
    assert random.drawn == ((),) * 4 and random.disjoint == (False,) * 4 and random.others == []
    assert random.controls(torch.ones(4, 3), torch.empty(0, 3)).shape == (4, 3, 0)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        RandomSets.beside(llama(), sets, -1, 0)


def test_effects_stand_beside_the_sets_that_they_belong_to():
    sets = [(Site("z", 1, 0),), (Site("z", 1, 1),), (Site("k", 2, 0),), (Site("mlp_out", 2),)]
    random = RandomSets.beside(llama(), sets, 5, 0)
    # What is named is not measured again.
    assert random.others == [(Site("z", 1, 2),), (Site("z", 1, 3),), (Site("k", 2, 1),)]
    effects, others = torch.tensor([10.0, 11.0, 20.0, 30.0]), torch.tensor([12.0, 13.0, 21.0])
    nan = torch.nan
    expected = torch.tensor([[11.0, 12.0, 13.0], [10.0, 12.0, 13.0], [21.0, nan, nan], [nan, nan, nan]])
    torch.testing.assert_close(random.controls(effects, others), expected, equal_nan=True)
    torch.testing.assert_close(
        random.controls(torch.stack([effects, -effects], 1), torch.stack([others, -others], 1))[:, 1],
        -expected,
        equal_nan=True,
    )
