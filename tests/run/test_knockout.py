"""A knock-out is a mask: attention that is forbidden before the softmax, and shared out among the other keys."""

from functools import cache

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit import Model
from run import by_hand
from run.test_interventions import assert_same_logits

NAMES = ("gpt2", "llama", "gemma2", "bloom", "gpt_oss", "falcon", "openelm_style")
LOWEST = torch.finfo(torch.float32).min


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@st.composite
def knockouts(draw, name):
    model = model_of(name)
    layer = draw(st.integers(0, model.n_layers - 1))
    head = draw(st.none() | st.integers(0, model.n_heads(layer) - 1))
    # The last query keeps its own key, so that no query that is named is left without any.
    queries = draw(st.lists(st.integers(-2, -1), min_size=1, max_size=2, unique=True))
    keys = draw(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=2, unique=True))
    return layer, head, queries, keys, draw(st.sampled_from(["equal", "left_padded"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_knockout_adds_the_lowest_number_to_the_scores(name):
    model = model_of(name)

    @settings(max_examples=20, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(knockouts(name))
    def check(case):
        layer, head, queries, keys, batch = case
        prompts = architectures.prompts(batch, batch=2)
        run = model.run(
            prompts.input_ids,
            [ck.knockout(layer, head, queries, keys)],
            capture=["pattern"],
            attention_mask=prompts.attention_mask,
        )
        forbidden = torch.zeros(2, model.n_heads(layer), 9, 9)
        for row, real in enumerate(prompts.real):
            columns = torch.nonzero(real).flatten()
            for query in queries:
                for key in keys:
                    forbidden[row, slice(None) if head is None else head, columns[query], columns[key]] = LOWEST
        edit = {("scores", layer): lambda scores: (scores + forbidden).clamp(min=LOWEST)}
        expected = by_hand.logits(model.hf, prompts.input_ids, prompts.attention_mask, edit)
        assert_same_logits(run.logits, expected, prompts.attention_mask)
        assert (run.cache[f"pattern[layer={layer}]"][forbidden < 0] == 0).all()

    check()


@pytest.mark.parametrize("name", NAMES)
def test_a_query_without_keys_attends_to_nothing(name):
    model, prompts = model_of(name), architectures.prompts("left_padded")
    run = model.run(
        prompts.input_ids,
        [ck.knockout(1, head=1, queries=-1)],
        capture=["pattern[layer=1]", "z[layer=1]"],
        attention_mask=prompts.attention_mask,
    )
    plain = model.run(prompts.input_ids, capture=["pattern[layer=1]"], attention_mask=prompts.attention_mask)
    pattern, untouched = run.cache["pattern[layer=1]"], plain.cache["pattern[layer=1]"]
    assert (pattern[:, 1, -1] == 0).all()
    assert (run.cache["z[layer=1, head=1, position=-1]"] == 0).all()
    others = [head for head in range(model.n_heads(1)) if head != 1]
    torch.testing.assert_close(pattern[:, others][:, :, -1], untouched[:, others][:, :, -1])
    assert not torch.isnan(run.logits[prompts.real]).any()


@pytest.mark.parametrize("name", NAMES)
def test_two_knockouts_are_one_of_both(name):
    model, prompts = model_of(name), architectures.prompts()
    apart = [ck.knockout(1, queries=-1, keys=range(4)), ck.knockout(1, queries=-1, keys=range(4, 9))]
    together = model.run(prompts.input_ids, apart, capture=["pattern[layer=1]"])
    whole = model.run(prompts.input_ids, [ck.knockout(1, queries=-1)], capture=["pattern[layer=1]"])
    assert (together.cache["pattern[layer=1]"][:, :, -1] == 0).all()
    assert torch.equal(together.logits, whole.logits)


def test_what_was_knocked_out_is_shared_among_the_other_keys():
    model, prompts = model_of("llama"), architectures.prompts()
    plain = model.run(prompts.input_ids, capture=["pattern[layer=0]"]).cache["pattern[layer=0]"]
    knocked = model.run(prompts.input_ids, [ck.knockout(0, keys=[0, 1], queries=-1)], capture=["pattern[layer=0]"])
    left = plain[:, :, -1].clone()
    left[..., :2] = 0
    torch.testing.assert_close(knocked.cache["pattern[layer=0]"][:, :, -1], left / left.sum(-1, keepdim=True))


def test_a_sink_takes_its_part_of_what_was_knocked_out():
    model, prompts = model_of("gpt_oss"), architectures.prompts()
    plain = model.run(prompts.input_ids, capture=["pattern[layer=1]"]).cache["pattern[layer=1]"][:, :, -1]
    knocked = model.run(prompts.input_ids, [ck.knockout(1, queries=-1, keys=[0])], capture=["pattern[layer=1]"])
    left = plain.clone()
    left[..., 0] = 0
    expected = left / (1 - plain[..., :1])
    torch.testing.assert_close(knocked.cache["pattern[layer=1]"][:, :, -1], expected, atol=1e-5, rtol=1e-4)
