"""Openings of answers: how a model begins to answer a problem, as given or as it writes them itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from circuitkit.circuits.errors import CircuitError
from circuitkit.evaluation.asking import check_template, templated
from circuitkit.tasks import prontoqa

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Ids = list[int]
Openings = str | Sequence[str] | Sequence[Sequence[int]]
"""One opening for all problems; one for each; or some of which one is drawn for each. As text or as token ids."""

THINKING = ("<think>Okay, so I have this problem", "<think>Alright, so I need to find")
"""How reasoning models of Thinking Sparks open (arXiv 2509.25758, section A)."""
DIRECT = ("To determine the", "We'll use Python to help us")
"""How their base models open."""
THINK_OFF = "<think>\n</think>"
"""What turns thinking off, put in the place of an opening."""


def prompt_ids(model: Model, problems: Sequence[str], chat: bool | None, think: bool | None) -> list[Ids]:
    """Problems as tokens, as one message of the user in the chat template, if there is one.

    Args:
        model: whose tokenizer reads them.
        problems: texts.
        chat: whether to go through the chat template; if None, wherever the tokenizer has one.
        think: what the template's `enable_thinking` is set to; None leaves it to the template.

    Raises:
        CircuitError: there is no tokenizer or no problem.
        EvaluationError: there is no chat template, or one that cannot turn thinking on and off.

    >>> [len(ids) for ids in prompt_ids(ck.load("deductor-130k"), ["Fae is loud."], None, None)]
    [4]
    """
    if model.tokenizer is None:
        raise CircuitError(f"{model.name} has no tokenizer, so problems cannot be asked as text")
    if not problems:
        raise CircuitError("there are no problems: give one at least")
    chat = getattr(model.tokenizer, "chat_template", None) is not None if chat is None else chat
    check_template(model.tokenizer, chat, think)
    texts = [templated(model.tokenizer, problem, chat, think) for problem in problems]
    return [list(ids) for ids in model.tokenizer(texts, add_special_tokens=not chat)["input_ids"]]


def written_openings(
    model: Model,
    problems: Sequence[str],
    n_tokens: int = 8,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool | None = None,
    think: bool | None = None,
    batch_size: int = 16,
) -> list[Ids]:
    """How a model itself begins to answer problems, as token ids: one opening for each.

    Args:
        model: who answers.
        problems: texts.
        n_tokens: how long openings are at most; one that ends sooner is as long as it is, without its end token.
        temperature: 0 is greedy.
        seed: of the sampling.
        chat, think: as in `thinking_pairs`.
        batch_size: how many problems are answered at once.

    Raises:
        CircuitError: no token is asked for, or a model ends its answer before it begins.

    >>> question = "Q: Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.\\nA:"
    >>> model = ck.load("deductor-130k")
    >>> model.tokenizer.decode(written_openings(model, [question], 4)[0])
    ' Fae is a wumpus'
    """
    import torch

    if n_tokens < 1:
        raise CircuitError(f"an opening of {n_tokens} tokens says nothing: give 1 or more")
    prompts = prompt_ids(model, problems, chat, think)
    settings: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        settings = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    found: list[Ids] = []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch_size):
            tokens = model.tokens(prompts[start : start + batch_size])
            written = model.generate(tokens.ids, attention_mask=tokens.mask.long(), max_new_tokens=n_tokens, **settings)
            found += [row[tokens.ids.shape[1] :].tolist() for row in written]
    ends = _ends(model)
    cut = [row[: next((at for at, token in enumerate(row) if token in ends), len(row))] for row in found]
    if empty := [row for row, ids in enumerate(cut) if not ids]:
        raise CircuitError(
            f"{model.name} ends its answer to problem {empty[0]} before it begins: leave the problem out"
        )
    return cut


def _ends(model: Model) -> set[int]:
    told = getattr(getattr(model.hf, "generation_config", None), "eos_token_id", None)
    ends = {told} if isinstance(told, int) else set(told or ())
    return {each for each in (*ends, model.tokenizer.eos_token_id, model.tokenizer.pad_token_id) if each is not None}


def opening_ids(model: Model, openings: Openings, n: int, seed: int, whose: str) -> list[Ids]:
    """An opening for each of `n` problems, as token ids.

    Raises:
        CircuitError: there are none, or one holds no token.
    """
    if isinstance(openings, str):
        openings = [openings]
    listed: list[Any] = list(openings)
    if not listed:
        raise CircuitError(f"there are no {whose} openings: give one at least")
    ids = [
        list(model.tokenizer(each, add_special_tokens=False)["input_ids"]) if isinstance(each, str) else list(each)
        for each in listed
    ]
    if empty := [place for place, each in enumerate(ids) if not each]:
        raise CircuitError(f"the {whose} opening {empty[0]} holds no token")
    if len(ids) == n:
        return ids
    # Apart for both sides, which else would always be drawn as the same couples.
    drawn = np.random.default_rng([seed, *whose.encode()]).integers(0, len(ids), n)
    return [ids[place] for place in drawn.tolist()]


def deductions_with_openings(
    n: int = 48, hops: int = 3, seed: int = 0, rule: str = "implication_elimination"
) -> tuple[list[str], list[str], list[str]]:
    """Problems of the embedded family with a reasoning and a direct opening each, for `thinking_pairs`.

    The thinking opening is the beginning of the problem's own proof (its first sentence, which restates the fact, and
    then the rule), the direct one the answer without any: " True", behind the same "Prove:" question. In the paper
    both are openings that the models wrote; a deductor answers " True" only where it is asked "True or false:", so the
    direct opening is off its distribution here, which openings written by the twins themselves (`written_openings`) are
    not.

    >>> problems, thinking, direct = deductions_with_openings(1, hops=1)
    >>> problems[0].endswith("A:"), thinking[0].count("."), direct
    (True, 3, [' True'])
    """
    examples = prontoqa.generate(rule, hops=hops, shots=0, n=n, seed=seed)
    return [each.prompt for each in examples], [each.answer for each in examples], [" True"] * len(examples)
