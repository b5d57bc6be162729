"""Synthetic checkpoints of a Llama's shapes in shards, as many bytes as wanted, written in blocks."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig

SHARD = 500 * 10**6
_BANK, _BLOCK = 2**22 + 1, 2**20
_KEPT_TYPES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}


@dataclass(frozen=True)
class Shape:
    """The widths of a Llama; layers come in as many as wanted.

    Attributes:
        width, inner: of the stream, and inside an MLP.
        heads, kv_heads: of attention.
        vocabulary: tokens.
        tied: whether embedding and unembedding are one tensor.
    """

    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool

    def outside(self) -> dict[str, tuple[int, ...]]:
        """The tensors that lie in no layer."""
        embedding = (self.vocabulary, self.width)
        tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": embedding}
        return tensors | ({} if self.tied else {"lm_head.weight": embedding}) | {"model.norm.weight": (self.width,)}

    def layer(self, number: int) -> dict[str, tuple[int, ...]]:
        """The tensors of one layer."""
        kept = self.width // self.heads * self.kv_heads
        shapes = {
            "self_attn.q_proj": (self.width, self.width),
            "self_attn.k_proj": (kept, self.width),
            "self_attn.v_proj": (kept, self.width),
            "self_attn.o_proj": (self.width, self.width),
            "mlp.gate_proj": (self.inner, self.width),
            "mlp.up_proj": (self.inner, self.width),
            "mlp.down_proj": (self.width, self.inner),
            "input_layernorm": (self.width,),
            "post_attention_layernorm": (self.width,),
        }
        return {f"model.layers.{number}.{name}.weight": shape for name, shape in shapes.items()}

    def config(self, layers: int, dtype: torch.dtype) -> LlamaConfig:
        """The settings of a Llama of these widths."""
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            tie_word_embeddings=self.tied,
            architectures=["LlamaForCausalLM"],
            dtype=dtype,
        )


SHAPES = {
    "1b": Shape(2048, 8192, 32, 8, 128_256, tied=True),
    "8b": Shape(4096, 14_336, 32, 8, 128_256, tied=False),
    "small": Shape(256, 1024, 8, 2, 4_000, tied=True),
}
"""Widths of Llama 3.2 1B and Llama 3.1 8B, and small ones that are written in a moment."""


def write_pair(folder: Path, shape: Shape, nbytes: int, dtype: torch.dtype) -> tuple[Path, Path]:
    """Write two checkpoints of about `nbytes` each, the second a little off the first, and give their folders."""
    layers = _layers(shape, nbytes, dtype)
    tensors = shape.outside() | {name: size for at in range(layers) for name, size in shape.layer(at).items()}
    bank = torch.randn(_BANK, generator=torch.Generator().manual_seed(0))
    folders = folder / "a", folder / "b"
    for path, moved in zip(folders, (0.0, 0.05), strict=True):
        path.mkdir(parents=True)
        shape.config(layers, dtype).save_pretrained(path)
        _write_shards(path, tensors, dtype, bank, moved)
    return folders


def _layers(shape: Shape, nbytes: int, dtype: torch.dtype) -> int:
    """How many layers come nearest to a size."""
    outside, layer = (
        sum(torch.Size(size).numel() for size in tensors.values()) for tensors in (shape.outside(), shape.layer(0))
    )
    return max(1, round((nbytes / dtype.itemsize - outside) / layer))


def _write_shards(
    folder: Path, tensors: dict[str, tuple[int, ...]], dtype: torch.dtype, bank: Tensor, moved: float
) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, size in tensors.items():
        held = sum(torch.Size(each).numel() for each in shards[-1].values()) * dtype.itemsize
        if shards[-1] and held + torch.Size(size).numel() * dtype.itemsize > SHARD:
            shards.append({})
        shards[-1][name] = size
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / file, shard, dtype, bank, moved)
        index |= dict.fromkeys(shard, file)
    total = sum(torch.Size(size).numel() for size in tensors.values()) * dtype.itemsize
    told = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(told))


def _write_shard(
    path: Path, tensors: dict[str, tuple[int, ...]], dtype: torch.dtype, bank: Tensor, moved: float
) -> None:
    """Write one file of the format: the header's length, the header, the bytes. `save_file` would want them at once."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, size in tensors.items():
        end = at + torch.Size(size).numel() * dtype.itemsize
        header[name] = {"dtype": _KEPT_TYPES[dtype], "shape": list(size), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, size in tensors.items():
            for block in _values(name, size, bank, moved):
                file.write(block.to(dtype).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _values(name: str, size: tuple[int, ...], bank: Tensor, moved: float) -> Iterator[Tensor]:
    """A tensor's values in blocks: stretches of one bank of random numbers, from another place for each tensor."""
    left, scale = torch.Size(size).numel(), 0.02
    start, other = (int.from_bytes(f"{name}{salt}".encode(), "little") for salt in "AB")
    while left:
        n = min(left, _BLOCK)
        first, second = (place % (_BANK - _BLOCK) for place in (start, other))
        block = scale * (bank[first : first + n] + moved * bank[second : second + n])
        yield 1 + block if len(size) == 1 else block
        left, start, other = left - n, start + 7 * _BLOCK + 13, other + 5 * _BLOCK + 11
