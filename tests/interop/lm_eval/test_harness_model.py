"""lm-eval's model of circuitkit: what lm-eval's own `hf` says, how responses end, and what is refused."""

import math
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from tokenizers.processors import TemplateProcessing

import architectures
import circuitkit as ck
from circuitkit.interop.lm_eval import HarnessError, HarnessModel
from circuitkit.interop.lm_eval.endings import Ending
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
    rolling_requests,
    zoo,
)

NAMES = ["gpt2", "llama", "qwen3", "gemma2", "mistral", "bloom", "falcon", "mixtral", "gpt_oss", "openelm_style"]


@pytest.mark.parametrize(("name", "size"), [("llama", 1), *((name, 3) for name in NAMES)])
def test_without_interventions_it_is_the_hf_model(name: str, size: int):
    model = zoo(name)
    how = {"batch_size": size, "max_length": 24}
    theirs, mine, changing_nothing = (
        hf_of(model, **how),
        HarnessModel(model, **how),
        HarnessModel(model, AN_UNCHANGING_ONE, **how),
    )
    expected = theirs.loglikelihood(likelihood_requests(PAIRS))
    with pytest.warns(UserWarning, match=r"1 of 7 contexts .* have up to 41 tokens, and lose their beginning"):
        assert mine.loglikelihood(likelihood_requests(PAIRS)) == expected
    with pytest.warns(UserWarning, match="lose their beginning: the model reads 24"):
        close(changing_nothing.loglikelihood(likelihood_requests(PAIRS)), expected)
    texts = [LONG, "w5 w6 w7", "w8"]
    rolled = theirs.loglikelihood_rolling(rolling_requests(texts))
    assert mine.loglikelihood_rolling(rolling_requests(texts)) == rolled
    held = changing_nothing.loglikelihood_rolling(rolling_requests(texts))
    assert held == pytest.approx(rolled, rel=1e-6, abs=1e-5)
    asked = {"until": ["w7", "w40 w41"], "max_gen_toks": 12}
    written = theirs.generate_until(generation_requests(CONTEXTS, **asked))
    with pytest.warns(UserWarning, match="prompts have up to 40 tokens, and lose their beginning: 12 are left"):
        assert mine.generate_until(generation_requests(CONTEXTS, **asked)) == written
    with pytest.warns(UserWarning, match="lose their beginning"):
        assert changing_nothing.generate_until(generation_requests(CONTEXTS, **asked)) == written


@pytest.mark.parametrize(
    "name",
    ["deductor-130k", *(pytest.param(f"deductor-{each}", marks=pytest.mark.slow) for each in ("5k", "20k-base", "1m"))],
)
def test_the_embedded_models_answer_as_the_hf_model_lets_them(name: str):
    model = ck.load(name)
    task = ck.tasks.prontoqa.task("implication_elimination", hops=2, shots=0, n=6)
    golds = [(task.prompt(item), f" {item.gold}") for item in task.items]
    theirs, mine = hf_of(model, batch_size=4), HarnessModel(model, batch_size=4)
    expected = theirs.loglikelihood(likelihood_requests(golds))
    assert mine.loglikelihood(likelihood_requests(golds)) == expected
    close(HarnessModel(model, AN_UNCHANGING_ONE, batch_size=4).loglikelihood(likelihood_requests(golds)), expected)
    prompts = [prompt for prompt, _ in golds]
    for how in ({"until": ["Q:"]}, {"until": ["\n"], "do_sample": True, "temperature": 0.6, "top_p": 0.95}):
        asked = {**how, "max_gen_toks": 40}
        written = []
        for harness in (theirs, mine):
            torch.manual_seed(5)
            written.append(harness.generate_until(generation_requests(prompts, **asked)))
        assert written[0] == written[1]


def test_tokens_are_drawn_by_torchs_seed():
    harness = HarnessModel("deductor-130k", batch_size=2)
    asked = generation_requests(["Q: Every wumpus is a dumpus.", "Q: Fae"], do_sample=True, temperature=0.6)
    drawn = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        drawn.append(harness.generate_until(asked))
    assert drawn[0] == drawn[2] != drawn[1]


@IGNORING_CUTS
@pytest.mark.parametrize("size", ["auto", pytest.param("auto:2", marks=pytest.mark.slow)])
def test_the_batch_size_is_found(size: str):
    model = zoo("llama")
    how = {"batch_size": size, "max_batch_size": 2, "max_length": 24}
    expected = hf_of(model, **how).loglikelihood(likelihood_requests(PAIRS))
    close(HarnessModel(model, **how).loglikelihood(likelihood_requests(PAIRS)), expected)
    # A position that no made-up token of the try for a size may stand for.
    held = HarnessModel(model, [ck.scale(ck.Site("z", layer=0, position=0), 1.0)], **how)
    close(held.loglikelihood(likelihood_requests(PAIRS)), expected)
    rolled = hf_of(model, **how).loglikelihood_rolling(rolling_requests([LONG]))
    assert held.loglikelihood_rolling(rolling_requests([LONG])) == pytest.approx(rolled, abs=1e-5)


@IGNORING_CUTS
@pytest.mark.parametrize("add", [None, True, False])
def test_beginnings_are_marked_as_the_hf_model_marks_them(add: bool | None):
    model = zoo("llama")
    model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", pair="<eos> $A $B", special_tokens=[("<eos>", architectures.EOS)]
    )
    how = {"batch_size": 2, "max_length": 24, "add_bos_token": add}
    pairs = [*PAIRS, ("<eos> w5 w6", " w7"), ("", "<eos> w5 w6")]
    expected = hf_of(model, **how).loglikelihood(likelihood_requests(pairs))
    assert HarnessModel(model, **how).loglikelihood(likelihood_requests(pairs)) == expected
    close(HarnessModel(model, AN_UNCHANGING_ONE, **how).loglikelihood(likelihood_requests(pairs)), expected)
    contexts = ["<eos> w5 w6", "w5 w6 w7"]
    written = hf_of(model, **how).generate_until(generation_requests(contexts, max_gen_toks=5))
    assert HarnessModel(model, **how).generate_until(generation_requests(contexts, max_gen_toks=5)) == written


def test_how_responses_ended_is_told():
    model = zoo("mixtral")
    harness = HarnessModel(model, batch_size=2)
    whole = harness.generate_until(generation_requests(CONTEXTS[:3], max_gen_toks=12))
    assert harness.endings == [Ending(12, "length", n, False) for n in (4, 1, 3)]
    stop = whole[0].split()[3]
    cut = harness.generate_until(generation_requests(CONTEXTS[:3], max_gen_toks=12, until=[stop]))
    assert harness.endings[0] == Ending(whole[0].split().index(stop) + 1, "stop", 4, False)
    assert cut[0].split() == whole[0].split()[: whole[0].split().index(stop)]
    assert [each.truncated for each in harness.endings] == [stop not in text.split() for text in whole]


def test_an_end_token_ends_a_response():
    model = zoo("mixtral")
    first = HarnessModel(model).generate_until(generation_requests(["w5 w6 w7 w8"], max_gen_toks=12))[0].split()
    model.hf.generation_config.eos_token_id = int(first[4].removeprefix("w"))
    harness = HarnessModel(model, batch_size=2)
    harness.generate_until(generation_requests(["w5 w6 w7 w8", "w9"], max_gen_toks=12))
    assert harness.endings[0] == Ending(first.index(first[4]) + 1, "end", 4, False)


def test_a_context_that_is_asked_in_two_ways_keeps_them_apart():
    harness = HarnessModel(zoo("mixtral"), batch_size=4)
    asked = [Instance("generate_until", {}, ("w5 w6", {"max_gen_toks": n}), at) for at, n in enumerate((3, 7, 3, 7))]
    harness.generate_until(asked)
    assert [each.n_tokens for each in harness.endings] == [3, 7, 3, 7]


TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}w90{% if enable_thinking %} w91{% endif %}{% endif %}"
)


@pytest.mark.parametrize("end", [None, "w40", 40])
def test_chats_and_thoughts_are_those_of_the_hf_model(end: str | int | None):
    model = zoo("mixtral")
    model.tokenizer.chat_template = TEMPLATE
    how: dict[str, Any] = {"think_end_token": end, "enable_thinking": None if end is None else True, "batch_size": 2}
    theirs, mine = hf_of(model, **how), HarnessModel(model, **how)
    history = [{"role": "user", "content": "w5 w6"}]
    chats = [harness.apply_chat_template(history) for harness in (theirs, mine)]
    assert chats[0] == chats[1]
    assert chats[0].endswith("w91") == (end is not None)
    # The words that it says are few, so that one of them can be taken for the end of a thought.
    said = mine.generate_until(generation_requests([chats[0], "w9 w8"], max_gen_toks=20))
    assert said == theirs.generate_until(generation_requests([chats[0], "w9 w8"], max_gen_toks=20))
    if end is not None:
        with pytest.raises(ValueError, match="enable_thinking=True is not compatible with loglikelihood"):
            mine.loglikelihood(likelihood_requests(PAIRS))


def test_what_follows_a_thought_is_the_response():
    model = zoo("mixtral")
    whole = HarnessModel(model).generate_until(generation_requests(["w5 w6"], max_gen_toks=10))[0].split()
    end = whole[3]
    for said in (end, int(end.removeprefix("w"))):
        found = HarnessModel(model, think_end_token=said).generate_until(
            generation_requests(["w5 w6"], max_gen_toks=10)
        )
        assert found[0].split() == whole[len(whole) - whole[::-1].index(end) :]


def test_what_it_cannot_do_is_refused_by_name():
    model = zoo("llama")
    with pytest.raises(HarnessError, match="has no tokenizer"):
        HarnessModel(ck.Model(model.hf))
    by_row = [ck.replace("z[layer=0, head=1]", torch.zeros(3, 1, 8))]
    with pytest.raises(HarnessError, match=r"z\[layer=0, head=1\] names rows"):
        HarnessModel(model, by_row)
    with pytest.raises(ck.model.SiteError, match="layer 9 does not exist"):
        HarnessModel(model, [ck.zero("z[layer=9]")])
    with pytest.raises(HarnessError, match="of deductor-5k are not here"):
        HarnessModel(ck.load("deductor-5k", engine="nnsight"))
    with pytest.raises(HarnessError, match="no setting 'batchsize' here; it has batch_size"):
        HarnessModel(model, batchsize=4)
    with pytest.raises(HarnessError, match="has no tokens"):
        HarnessModel(model).generate_until(generation_requests(["", "w5"], max_gen_toks=3))


@IGNORING_CUTS
@pytest.mark.parametrize("held", [[], AN_UNCHANGING_ONE])
@pytest.mark.parametrize(
    ("continuation", "message"),
    [("w6", "'w5', 'w6'.* has 1 tokens of context and 0"), (" " + LONG, "40 tokens, and the model reads 24")],
)
def test_continuations_that_cannot_be_asked_are_named(held: Interventions, continuation: str, message: str):
    with pytest.raises(HarnessError, match=message):
        HarnessModel(zoo("llama"), held, max_length=24).loglikelihood(likelihood_requests([("w5", continuation)]))


def test_weights_that_are_not_tied_are_not_tied_again():
    model = ck.load("deductor-5k")
    own = torch.nn.Parameter(model.hf.lm_head.weight.detach().clone() * 0.5)
    model.hf.lm_head.weight = own
    with pytest.raises(HarnessError, match="tie_word_embeddings = False"):
        HarnessModel(model)
    model.hf.config.tie_word_embeddings = False
    HarnessModel(model)
    assert model.hf.lm_head.weight is own


@IGNORING_CUTS
@pytest.mark.parametrize("held", [[], AN_UNCHANGING_ONE])
def test_nan_is_an_error(held: Interventions):
    model = zoo("llama")
    with torch.no_grad():
        model.hf.model.norm.weight[0] = math.nan
    harness = HarnessModel(model, held)
    with pytest.raises(HarnessError, match="NaN"):
        harness.loglikelihood(likelihood_requests(PAIRS[:2]))
    with pytest.raises(HarnessError, match="NaN"):
        harness.generate_until(generation_requests(["w5"], max_gen_toks=3))
