"""What a separator of two newlines becomes in a tokenizer, and a twin of a model for which two newlines are one token.

Published training texts have one newline before "A:", and tests of the two rules with hypotheses two. Where a tokenizer
makes a token of its own of two newlines (as those of Qwen2 and Llama 3 do), it is one that training never showed there;
where it reads a newline twice (GPT-2's before a letter, any word-level one), no token is new, and only their number is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import circuitkit as ck

MERGED = "\n\n"


def separators_table(tokenizers: dict[str, Any], question: str = "Fae is loud.") -> pd.DataFrame:
    """A row a tokenizer: the tokens that stand between a question and "A:" with one newline and with two.

    `new at test` are the tokens that the second has and the first has not: what training texts never show there.
    """
    found = []
    for name, tokenizer in tokenizers.items():
        one, two = (_between(tokenizer, question, gap) for gap in ("\n", MERGED))
        new = [token for token in two if token not in one]
        found.append(
            {
                "tokenizer": name,
                "one newline": " ".join(map(repr, one)),
                "two newlines": " ".join(map(repr, two)),
                "new at test": " ".join(map(repr, new)) or "none",
            }
        )
    return pd.DataFrame(found, columns=["tokenizer", "one newline", "two newlines", "new at test"])


def _between(tokenizer: Any, question: str, gap: str) -> list[str]:
    """The texts of the tokens that begin in the gap or in "A:"."""
    text = f"{question}{gap}A:"
    read = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    return [text[start:end] for start, end in read["offset_mapping"] if end > len(question)]


CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How the tokenizers of Llama 3 and Qwen2 split a text before pairs are merged, up to the digits."""


def byte_pairs(texts: Sequence[str], pattern: str | None = None, size: int = 1000) -> PreTrainedTokenizerFast:
    """A byte-level byte-pair tokenizer learnt from these texts; it splits them first as GPT-2's does, or otherwise."""
    backend = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    first = [] if pattern is None else [pre_tokenizers.Split(Regex(pattern), behavior="isolated")]
    backend.pre_tokenizer = pre_tokenizers.Sequence([*first, byte_level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", padding_side="left"
    )


def merged_twin(model: ck.Model) -> ck.Model:
    """The same model with a token of its own for two newlines, as byte-pair tokenizers have it.

    The new token begins as a copy of the newline's embedding, so that nothing but its having a row of its own differs.
    The model that is given is changed: its embeddings grow by a row.

    Raises:
        ValueError: the tokenizer is not word-level.

    >>> twin = merged_twin(ck.load("deductor-5k-base"))
    >>> twin.tokenizer.tokenize("\\n\\nA:"), twin.tokenizer.tokenize("\\nA:")
    (['\\n\\n', 'A', ':'], ['\\n', 'A', ':'])
    """
    told = json.loads(model.tokenizer.backend_tokenizer.to_str())
    if told["model"]["type"] != "WordLevel" or "\n" not in told["model"]["vocab"]:
        raise ValueError(f"{model.name} has no word-level tokenizer with a newline, so two cannot be merged in it")
    vocabulary = told["model"]["vocab"]
    new = len(vocabulary)
    backend = Tokenizer(models.WordLevel({**vocabulary, MERGED: new}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n\n| ?\w+|[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    old = model.tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{f"{kind}_token": getattr(old, f"{kind}_token") for kind in ("pad", "bos", "eos", "unk")},
        padding_side="left",
        model_max_length=old.model_max_length,
        clean_up_tokenization_spaces=False,
    )
    hf = model.hf
    hf.resize_token_embeddings(new + 1, mean_resizing=False)
    with torch.no_grad():
        for rows in {
            id(part.weight): part.weight for part in (hf.get_input_embeddings(), hf.get_output_embeddings())
        }.values():
            rows[new] = rows[vocabulary["\n"]]
    return ck.Model(hf, tokenizer)
