"""Padding that reaches circuits: masked it is nobody's, unmasked it is refused, whichever token it is."""

from functools import cache

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.circuits import CircuitError, Convention, Graph, Layout, run_circuit

EOS = architectures.EOS
ANSWER, DISTRACTOR = [[20], [21]], [[22], [23]]
CLEAN, CORRUPT = [[5, 6, 7, 8], [9, 10]], [[5, 11, 7, 8], [9, 12]]


@cache
def model_that_pads_by_its_end() -> tuple[ck.Model, Graph]:
    hf, words = architectures.build("gpt2")
    words.pad_token = words.eos_token
    model = ck.Model(hf, words)
    layout = Layout.of(model)
    members = layout.reach & (torch.rand(layout.reach.shape, generator=torch.Generator().manual_seed(0)) < 0.4)
    return model, Graph(layout, torch.zeros(layout.reach.shape), members, Convention("random", "logit_difference"))


def values(clean, corrupt) -> torch.Tensor:
    model, graph = model_that_pads_by_its_end()
    return run_circuit(model, graph, ck.Pairs(clean, corrupt, ANSWER, DISTRACTOR), progress=False)


def filled(rows: list[list[int]], right: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 4 columns, filled up by the token that ends texts, and their mask."""
    gaps = [[EOS] * (4 - len(row)) for row in rows]
    ids = torch.tensor([row + gap if right else gap + row for row, gap in zip(rows, gaps, strict=True)])
    lengths = torch.tensor([[len(row)] for row in rows])
    columns = torch.arange(4)
    return ids, columns < lengths if right else columns >= 4 - lengths


@pytest.mark.parametrize("right", [False, True])
def test_padding_comes_with_its_mask(right: bool) -> None:
    model, _ = model_that_pads_by_its_end()
    masked = [model.tokens(ids, attention_mask=mask) for ids, mask in (filled(CLEAN, right), filled(CORRUPT, right))]
    assert torch.allclose(values(*masked), values(CLEAN, CORRUPT), atol=2e-6)
    graph, expected = (
        ck.circuits.attribute(model, ck.Pairs(*given, ANSWER, DISTRACTOR), method="eap", progress=False)
        for given in (masked, (CLEAN, CORRUPT))
    )
    assert torch.allclose(graph.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize(("right", "position"), [(False, 0), (True, 3)])
def test_padding_without_a_mask_is_refused_though_texts_end_in_it_too(right: bool, position: int) -> None:
    ids = [filled(rows, right)[0] for rows in (CLEAN, CORRUPT)]
    match = rf"clean prompt of pair 1 has the pad token at position {position}, .* model.tokens\(ids, attention_mask"
    for given in (ids, [each.tolist() for each in ids]):
        with pytest.raises(CircuitError, match=match):
            values(*given)


def test_prompts_may_all_begin_or_end_in_the_token_that_is_padding_too() -> None:
    begun = [[[EOS, *row] for row in rows] for rows in (CLEAN, CORRUPT)]
    assert len(values(*begun)) == 2
    ended = [[[*row, EOS] for row in rows] for rows in (CLEAN, CORRUPT)]
    assert not torch.equal(values(*ended), values(CLEAN, CORRUPT))
    within = [[[row[0], EOS, EOS, *row[1:]] for row in rows] for rows in (CLEAN, CORRUPT)]
    assert len(values(*within)) == 2
    assert len(values(["<eos> <eos> w9", "w7"], ["<eos> <eos> w8", "w6"])) == 2
