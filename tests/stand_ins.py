"""Small random models in folders that bear a hub id's name: what a page does with the hub's is done with them."""

import inspect
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config
from transformers.models.auto import AutoModelForCausalLM

from circuitkit.tasks import indirect_objects

_WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
_ARCHITECTURES = {
    "gpt2": lambda size: GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=size),
    "my-model": lambda size: LlamaConfig(num_hidden_layers=2, vocab_size=size, **_WIDTHS),
    "meta-llama": lambda size: LlamaConfig(num_hidden_layers=4, vocab_size=size, **_WIDTHS),
    "Qwen": lambda size: Qwen2Config(num_hidden_layers=2, vocab_size=size, **_WIDTHS),
}


def stand_in(name: str, text: str) -> None:
    """Write a model of a hub id's architecture, or a Llama in place of the reader's own, into the folder of that name.

    Each word of the text, and of the sentences about indirect objects, is one token with the space before it.
    """
    words = re.findall(r"[A-Za-z]+", inspect.getsource(indirect_objects) + text)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=20_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((f" {word}" for word in words), trainer)
    config = _ARCHITECTURES[name.partition("/")[0]](tokenizer.get_vocab_size() + 1)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(Path(name))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(Path(name))
