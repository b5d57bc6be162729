"""The words of planted models, and prompts in which a circuit has something to complete."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

PAD_ID, BOS_ID, SEPARATOR_ID, FIRST_WORD_ID = 0, 1, 2, 3
N_WORDS = 61
N_POSITIONS = 64
VOCABULARY = ("<pad>", "<bos>", " ;", *(f" {'abcdefg'[i // 10]}{i % 10}" for i in range(N_WORDS)))

Task = Literal["induction", "two-hop"]
Corruption = Literal["subject", "query", "object"]


class PlantedPairs(NamedTuple):
    """Clean and corrupt prompts `[n, position]`, the clean answer and the corrupt one (the distractor) `[n]`."""

    clean: Int[Tensor, "n position"]
    corrupt: Int[Tensor, "n position"]
    answer: Int[Tensor, " n"]
    distractor: Int[Tensor, " n"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of planted models: " a3" is one token, and <bos> comes first.

    Words are separated by spaces; pads go left. An unknown word is an error.

    >>> tokenizer()(" a0 a1 ;")["input_ids"]
    [1, 3, 4, 2]
    """
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}))
    # A prompt's first word and an answer alone get the same token with or without their leading space.
    words.normalizer = normalizers.Sequence(
        [normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Prepend(" ")]
    )
    words.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_next")
    words.decoder = decoders.Fuse()
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS_ID)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=words,
        pad_token="<pad>",
        bos_token="<bos>",
        padding_side="left",
        model_max_length=N_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def draw_pairs(task: Task, n: int, seed: int, length: int, corruption: Corruption) -> PlantedPairs:
    """Draw pairs of a task; see `Planted.pairs` for what the arguments mean and what is refused."""
    if n < 1:
        raise ValueError(f"n must be at least 1, and is {n}")
    check_corruption(corruption)
    if task == "induction" and not 6 <= length <= 62:
        raise ValueError(f"an induction prompt has 6 to 62 tokens, not {length}")
    if task == "two-hop" and not (14 <= length <= 62 and length % 3 == 2):
        raise ValueError(f"a two-hop prompt has 14, 17, 20, … or 62 tokens (four facts or more), not {length}")
    rng = random.Random(seed)
    draw = _draw_induction if task == "induction" else _draw_two_hop
    rows = [draw(rng, length, corruption) for _ in range(n)]
    clean, corrupt, answer, distractor = (torch.tensor(column) for column in zip(*rows, strict=True))
    return PlantedPairs(clean, corrupt, answer, distractor)


def check_corruption(corruption: str) -> None:
    """Raise ValueError for a corruption that there is not."""
    if corruption not in ("subject", "query", "object"):
        raise ValueError(f"corruption must be 'subject', 'query' or 'object', and is {corruption!r}")


_Row = tuple[list[int], list[int], int, int]


def _words(rng: random.Random, n: int) -> list[int]:
    return rng.sample(range(FIRST_WORD_ID, FIRST_WORD_ID + N_WORDS), n)


def _draw_induction(rng: random.Random, length: int, corruption: Corruption) -> _Row:
    subject, answer, other_subject, distractor, *fillers = _words(rng, length - 2)
    pieces: list[tuple[int, ...]] = [(subject, answer), (other_subject, distractor), *((f,) for f in fillers)]
    rng.shuffle(pieces)
    clean = [BOS_ID, *(token for piece in pieces for token in piece), subject]
    return clean, _corrupted(clean, corruption, (subject, other_subject), (answer, distractor)), answer, distractor


def _draw_two_hop(rng: random.Random, length: int, corruption: Corruption) -> _Row:
    n_facts = (length - 2) // 3
    a, b, c, d, e, f, *others = _words(rng, 6 + 2 * (n_facts - 4))
    facts = [(a, b), (b, c), (d, e), (e, f), *zip(others[::2], others[1::2], strict=True)]
    rng.shuffle(facts)
    clean = [BOS_ID, *(token for fact in facts for token in (*fact, SEPARATOR_ID)), a]
    return clean, _corrupted(clean, corruption, (a, d), (c, f)), c, f


def _corrupted(
    clean: list[int], corruption: Corruption, subjects: tuple[int, int], objects: tuple[int, int]
) -> list[int]:
    *body, query = clean
    if corruption == "query":
        return [*body, subjects[1]]
    first, second = subjects if corruption == "subject" else objects
    swap = {first: second, second: first}
    return [*(swap.get(token, token) for token in body), query]
