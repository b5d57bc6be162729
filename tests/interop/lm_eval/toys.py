"""Tiny models for lm-eval, and what it asks them."""

import copy
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import architectures
import circuitkit as ck
from circuitkit.interop.lm_eval import evaluate

LONG = " ".join(f"w{3 + number % 80}" for number in range(40))
# Of unequal lengths, sharing contexts, without a context, of several tokens, and too long for 24 tokens.
PAIRS = [
    ("w5 w6 w7 w8", " w9"),
    ("w5 w6 w7 w8", " w10"),
    ("w11", " w12 w13 w14"),
    ("", " w4 w5 w6"),
    (LONG, " w50 w51"),
    ("w5 w6 ", " w9 w9"),
    ("w5 w6", " w9 w9 w9"),
]
CONTEXTS = ["w5 w6 w7 w8", "w9", "w20 w21 w22", LONG, "w9"]
IGNORING_CUTS = pytest.mark.filterwarnings("ignore:.*lose their beginning")
AN_UNCHANGING_ONE = [ck.scale("z[layer=0]", 1.0)]
GPQA = "gpqa_diamond_cot_zeroshot"
WORDS = [f"w{number}" for number in range(3, 96)]


def zoo(name: str) -> ck.Model:
    return ck.Model(*architectures.build(name))


def hf_of(model: ck.Model, **how: Any) -> HFLM:
    return HFLM(pretrained=model.hf, tokenizer=copy.deepcopy(model.tokenizer), **how)


def likelihood_requests(pairs: list[tuple[str, str]]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]


def rolling_requests(texts: list[str]) -> list[Instance]:
    return [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]


def generation_requests(contexts: list[str], **how: Any) -> list[Instance]:
    return [Instance("generate_until", {}, (context, dict(how)), number) for number, context in enumerate(contexts)]


def close(found: list[tuple[float, bool]], expected: list[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    for (mine, _), (theirs, _) in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-5)


def chatty() -> ck.Model:
    """A tiny random model that says letters in parentheses often, and "The answer is" never."""
    hf, _ = architectures.build("mixtral")
    spoken = [f"({'ABCD'[number % 4]})x{number}" if number % 3 else f"w{number}" for number in range(3, 96)]
    words = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(["<pad>", "<eos>", "<unk>", *spoken])}, unk_token="<unk>")
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return ck.Model(
        hf,
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", bos_token="<eos>", unk_token="<unk>"
        ),
    )


def aime(model: ck.Model, n: int = 4) -> list[dict[str, str]]:
    """Problems whose answers are what the model says first where it takes the likeliest word."""
    problems = [" ".join(WORDS[at : at + 3]) for at in range(n)]
    asked = evaluate(
        model, "aime24", seeds=1, temperature=0, max_gen_toks=1, progress=False,
        data={"aime24": [{"Problem": problem, "Answer": "?"} for problem in problems]},
    )  # fmt: skip
    said = asked.frame["response"]
    return [{"Problem": problem, "Answer": text} for problem, text in zip(problems, said, strict=True)]


def gpqa(n: int = 5) -> list[dict[str, str]]:
    return [
        {"Question": WORDS[at], "Correct Answer": f"right {at}"}
        | {f"Incorrect Answer {wrong}": f"wrong {at} {wrong}" for wrong in (1, 2, 3)}
        for at in range(n)
    ]
