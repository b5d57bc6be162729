"""The models that the package carries: where they are, and the word-level tokenizer they read with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_FOLDER = Path(__file__).parent / "deductors"
_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")


def names() -> list[str]:
    """Return the names of the embedded models, smallest first; a bare name (`deductor-130k`) is its `-reason`.

    >>> "deductor-130k" in names(), "deductor-130k-base" in names()
    (True, True)
    """
    folders = [folder.name for folder in _FOLDER.iterdir() if (folder / "model.safetensors").is_file()]
    bare = [name.removesuffix("-reason") for name in folders if name.endswith("-reason")]
    return sorted([*folders, *bare], key=_size_then_stage)


def path(name: str) -> Path:
    """Return the folder of the embedded model `name`, in the Hugging Face layout.

    Raises `ValueError` where there is no such model, listing those there are.

    >>> path("deductor-130k").name
    'deductor-130k-reason'
    """
    known = names()
    if name not in known:
        raise ValueError(f"no embedded model is called {name!r}; there are: {', '.join(known)}")
    folder = _FOLDER / name
    return folder if folder.is_dir() else _FOLDER / f"{name}-reason"


def _size_then_stage(name: str) -> tuple[float, str, int]:
    """Order by the size in the name, then by stage, then by step."""
    found = re.fullmatch(r"deductor-(\d+)([km])(?:-([a-z]+)(\d*))?", name)
    if found is None:
        raise ValueError(f"the folder {name!r} is not named like an embedded model (deductor-130k-base)")
    number, unit, stage, step = found.groups()
    return int(number) * {"k": 1e3, "m": 1e6}[unit], stage or "", int(step or 0)


def word_tokenizer(words: Sequence[str], max_length: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a word, the space before a word being part of its token.

    Text made of `words` is decoded exactly as it was; any other word becomes `<unk>`. Nothing is added at
    either end. Padding is on the left, as generation needs.

    >>> tokenizer = word_tokenizer(["Fae", " is", " loud", "."], max_length=16)
    >>> tokenizer.decode(tokenizer.encode("Fae is loud."))
    'Fae is loud.'
    """
    # Finding a model's folder has to stay quick, and transformers takes seconds to import.
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *words))}
    if len(vocabulary) != len(_SPECIAL) + len(words):
        raise ValueError("the words of a tokenizer must be distinct")
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
