"""lm-eval's model of circuitkit under interventions: what brute force and the model's own generation say."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit.interop.lm_eval import HarnessError, HarnessModel
from circuitkit.run import InterventionError
from circuitkit.run.interventions import Interventions
from interop.lm_eval.toys import (
    AN_UNCHANGING_ONE,
    CONTEXTS,
    IGNORING_CUTS,
    LONG,
    PAIRS,
    close,
    generation_requests,
    hf_of,
    likelihood_requests,
    zoo,
)

HELD: dict[str, Interventions] = {
    "a head": [ck.zero("z[layer=1, head=2]")],
    "the context's end": [ck.zero(ck.Site("resid_post", layer=1, position=-1))],
    "the context's beginning": [ck.scale(ck.Site("z", layer=0, head=1, position=0), 3.0)],
    "the context alone": [ck.scale("mlp_out[layer=0]", 0.3, during="prompt")],
    "the continuation alone": [ck.scale("mlp_out[layer=1]", -1.0, during="generated")],
    "a key": [ck.knockout(0, 1, keys=0), ck.knockout(1, keys=-1)],
    "several": [ck.zero("z[layer=0, head=3]"), ck.add("resid_post[layer=1]", torch.full((32,), 0.5))],
}


def by_brute_force(model: ck.Model, held: Interventions, context: list[int], continuation: list[int]) -> list[Tensor]:
    """Log-probabilities of each next token: the context read under the interventions, then a token at a time."""
    found = []
    with model.intervene(held), torch.no_grad():
        past: Any = None
        for ids in ([context], *([[token]] for token in continuation[:-1])):
            read = model.hf(input_ids=torch.tensor(ids), past_key_values=past, use_cache=True)
            past = read.past_key_values
            found.append(read.logits[0, -1].log_softmax(-1))
    return found


def check_against_brute_force(model: ck.Model, held: Interventions, pairs: list[tuple[str, str]], size: int) -> None:
    harness = HarnessModel(model, held, batch_size=size)
    found = harness.loglikelihood(likelihood_requests(pairs))
    for (context, continuation), (likelihood, greedy) in zip(pairs, found, strict=True):
        ids, wanted = (model.tokenizer(text)["input_ids"] for text in (context, continuation))
        each = by_brute_force(model, held, ids, wanted)
        expected = sum(float(one[token]) for one, token in zip(each, wanted, strict=True))
        assert likelihood == pytest.approx(expected, rel=1e-6, abs=2e-5)
        assert greedy == all(int(one.argmax()) == token for one, token in zip(each, wanted, strict=True))


@pytest.mark.parametrize("which", HELD)
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_likelihoods_under_interventions_are_those_of_brute_force(name: str, which: str):
    pairs = [("w5 w6 w7 w8", " w9 w10"), ("w11 w12", " w12 w13 w14"), ("w20 w21 w22 w23 w24", " w9 w3")]
    check_against_brute_force(zoo(name), HELD[which], pairs, 3)


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(2, 5)), min_size=1, max_size=5), size=st.integers(1, 4)
)
def test_lengths_and_batches_do_not_matter(lengths: list[tuple[int, int]], size: int):
    words = [f"w{number}" for number in range(3, 96)]
    pairs = [
        (" ".join(words[at : at + context]), " " + " ".join(words[50 + at : 50 + at + continuation]))
        for at, (context, continuation) in enumerate(lengths)
    ]
    check_against_brute_force(zoo("llama"), [*HELD["the context's end"], *HELD["the continuation alone"]], pairs, size)


@pytest.mark.parametrize("which", HELD)
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_generations_under_interventions_are_the_models_own(name: str, which: str):
    model, contexts = zoo(name), ["w5 w6 w7 w8", "w9 w9", "w20 w21 w22"]
    harness = HarnessModel(model, HELD[which], batch_size=3)
    found = harness.generate_until(generation_requests(contexts, max_gen_toks=8))
    for context, text in zip(contexts, found, strict=True):
        with model.intervene(HELD[which]):
            ids = model.generate(context, max_new_tokens=8, do_sample=False)
        alone = model.tokenizer.decode(ids[0, len(context.split()) :], skip_special_tokens=True)
        assert text == alone
    if name == "llama":
        assert found != HarnessModel(model, batch_size=3).generate_until(generation_requests(contexts, max_gen_toks=8))


@IGNORING_CUTS
def test_a_context_that_is_open_on_the_model_holds_too():
    model = zoo("llama")
    expected = HarnessModel(model, HELD["the context's end"]).loglikelihood(likelihood_requests(PAIRS))
    with model.intervene(HELD["the context's end"]):
        close(HarnessModel(model, batch_size=4).loglikelihood(likelihood_requests(PAIRS)), expected)
    with pytest.raises(HarnessError, match="captures"), model.intervene([], capture=["z"]):
        HarnessModel(model).loglikelihood(likelihood_requests(PAIRS))


@IGNORING_CUTS
def test_a_continuation_keeps_its_interventions_where_its_context_is_cut():
    model = zoo("llama")
    held = HELD["the context's end"]
    found = HarnessModel(model, held, max_length=10).loglikelihood(likelihood_requests([(LONG, " w50 w51")]))
    left = " ".join(LONG.split()[-9:])
    close(found, HarnessModel(model, held).loglikelihood(likelihood_requests([(left, " w50 w51")])))


def test_a_try_for_the_batch_size_is_no_taking_place():
    never = [ck.zero(ck.Site("z", layer=0, position=20))]
    harness = HarnessModel(zoo("llama"), never, batch_size="auto", max_batch_size=2, max_length=24)
    with pytest.raises(InterventionError, match="never took place"):
        harness.loglikelihood(likelihood_requests([("w5 w6", " w9")]))
    alone = HarnessModel(zoo("llama"), batch_size="auto", max_batch_size=2, max_length=24)
    with pytest.raises(InterventionError, match="never took place"), alone.circuit_model.intervene(never):
        alone.loglikelihood(likelihood_requests([("w5 w6", " w9")]))


@pytest.mark.parametrize("held", [ck.zero("z[layer=0]", during="generated"), ck.zero("z[layer=0, position=30]")])
def test_an_intervention_that_never_took_place_is_an_error(held: Any):
    harness = HarnessModel(zoo("llama"), [held])
    with pytest.raises(InterventionError, match="never took place"):
        harness.loglikelihood(likelihood_requests([("w5 w6", " w9")]))
    with pytest.raises(InterventionError, match="never took place"):
        harness.generate_until(generation_requests(["w5 w6"], max_gen_toks=1))


def test_an_adapter_takes_part():
    from peft import LoraConfig, get_peft_model

    hf, tokenizer = architectures.build("llama")
    plain = HarnessModel(ck.Model(hf, tokenizer)).loglikelihood(likelihood_requests(PAIRS))
    adapted = get_peft_model(hf, LoraConfig(r=1, target_modules=["o_proj"], init_lora_weights=False)).eval()
    model = ck.Model(adapted, tokenizer)
    expected = hf_of(model, batch_size=3).loglikelihood(likelihood_requests(PAIRS))
    assert HarnessModel(model, batch_size=3).loglikelihood(likelihood_requests(PAIRS)) == expected != plain
    close(HarnessModel(model, AN_UNCHANGING_ONE, batch_size=3).loglikelihood(likelihood_requests(PAIRS)), expected)
    check_against_brute_force(model, HELD["the continuation alone"], [("w5 w6 w7", " w9 w10 w11"), ("w3", " w4 w5")], 2)
    written = [
        harness.generate_until(generation_requests(CONTEXTS[:3], max_gen_toks=6))
        for harness in (hf_of(model, batch_size=3), HarnessModel(model, AN_UNCHANGING_ONE, batch_size=3))
    ]
    assert written[0] == written[1]


def test_the_models_own_tokenizer_and_weights_stay_as_they_are():
    model = zoo("gpt2")
    model.tokenizer.pad_token = None
    before = copy.deepcopy(model.hf.state_dict())
    harness = HarnessModel(model, HELD["a head"], batch_size=2)
    harness.generate_until(generation_requests(CONTEXTS[:2], max_gen_toks=3))
    assert model.tokenizer.pad_token is None
    assert all(torch.equal(before[name], tensor) for name, tensor in model.hf.state_dict().items())
    assert not model.sessions
