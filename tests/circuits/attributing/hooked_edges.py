"""Edges by their definition, with plain hooks on tiny Hugging Face models and nothing of the package's own.

Each class keeps its parts where it likes; what they compute is written out here: a norm, a projection, a slice.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import architectures
import circuitkit as ck

NAMES = ("gpt2", "llama", "gemma2", "gpt_neox", "olmo2")


@cache
def built(name: str) -> tuple[Any, ck.Model]:
    hf, tokenizer = architectures.build(name)
    return hf, ck.Model(hf, tokenizer, name=name)


def drawn_pairs(lengths: tuple[int, ...] = (7, 7, 7)) -> ck.Pairs:
    """Pairs of text that differ at their third and fourth token."""
    generator = torch.Generator().manual_seed(4)
    answers = torch.randint(5, architectures.VOCABULARY, (len(lengths), 2), generator=generator)
    clean, corrupt = [], []
    for length in lengths:
        row = torch.randint(5, architectures.VOCABULARY, (length,), generator=generator).tolist()
        clean.append(" ".join(f"w{token}" for token in row))
        row[2:4] = [(token + 7) % 60 + 5 for token in row[2:4]]
        corrupt.append(" ".join(f"w{token}" for token in row))
    return ck.Pairs(clean, corrupt, answers[:, 0], answers[:, 1])


@dataclass
class Parts:
    """One layer: its modules, and how heads lie in them."""

    block: nn.Module
    norm: Callable[[Tensor], Tensor]
    qkv: dict[str, nn.Module]
    columns: Callable[[str, int], slice]
    o: nn.Module
    o_matrix: Tensor
    post: nn.Module | None
    branch: Callable[[Tensor], Tensor]
    branch_end: nn.Module
    parallel: bool


def identity(stream: Tensor) -> Tensor:
    return stream


def side_by_side(width: int) -> Callable[[str, int], slice]:
    return lambda kind, head: slice(head * width, (head + 1) * width)


def parts(name: str, hf: Any) -> list[Parts]:
    if name == "gpt2":

        def fused(kind: str, head: int) -> slice:
            start = "qkv".index(kind) * 32 + head * 8
            return slice(start, start + 8)

        return [
            Parts(
                b, b.ln_1, dict.fromkeys("qkv", b.attn.c_attn), fused, b.attn.c_proj, b.attn.c_proj.weight, None,
                lambda x, b=b: b.mlp(b.ln_2(x)), b.mlp, False,
            )
            for b in hf.transformer.h
        ]  # fmt: skip
    if name == "gpt_neox":

        def interleaved(kind: str, head: int) -> slice:
            start = (head * 3 + "qkv".index(kind)) * 8
            return slice(start, start + 8)

        return [
            Parts(
                b, b.input_layernorm, dict.fromkeys("qkv", b.attention.query_key_value), interleaved,
                b.attention.dense, b.attention.dense.weight.T, None,
                lambda x, b=b: b.mlp(b.post_attention_layernorm(x)), b.mlp, True,
            )
            for b in hf.gpt_neox.layers
        ]  # fmt: skip
    found = []
    for b in hf.model.layers:
        a = b.self_attn
        before_mlp = {"llama": "post_attention_layernorm", "gemma2": "pre_feedforward_layernorm"}.get(name)
        norm_mlp = identity if before_mlp is None else getattr(b, before_mlp)
        post = None if name == "llama" else b.post_attention_layernorm
        after_mlp = None if name == "llama" else b.post_feedforward_layernorm

        def branch(x: Tensor, b: Any = b, norm: Any = norm_mlp, after: Any = after_mlp) -> Tensor:
            out = b.mlp(norm(x))
            return out if after is None else after(out)

        found.append(
            Parts(
                b, identity if name == "olmo2" else b.input_layernorm,
                {"q": a.q_proj, "k": a.k_proj, "v": a.v_proj}, side_by_side(a.head_dim), a.o_proj, a.o_proj.weight.T,
                post, branch, b.mlp if after_mlp is None else after_mlp, False,
            )
        )  # fmt: skip
    return found


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def before(module: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
        if args:
            new = act(args[0])
            return None if new is None else ((new, *args[1:]), kwargs)
        new = act(kwargs["hidden_states"])
        return None if new is None else (args, {**kwargs, "hidden_states": new})

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    yield
    handle.remove()


@contextmanager
def after(module: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        new = act(first(output))
        if new is None:
            return None
        return new if isinstance(output, Tensor) else (new, *output[1:])

    handle = module.register_forward_hook(hook)
    yield
    handle.remove()


class Oracle:
    """A model's clean and corrupt run, and runs of the clean prompts with one edge patched."""

    def __init__(self, name: str, pairs: ck.Pairs, corrupt_at: list[list[int]] | None = None) -> None:
        self.corrupt_at = corrupt_at
        self.hf, self.model = built(name)
        self.pairs, self.parts = pairs, parts(name, self.hf)
        self.layout = ck.circuits.Layout.of(self.model)
        self.clean_tokens, corrupt = (self.model.tokens(each) for each in (pairs.clean, pairs.corrupt))
        self.clean, self.corrupt = self.seen(self.clean_tokens), self.seen(corrupt)
        self.value = self.measured()

    @property
    def final_norm(self) -> nn.Module:
        inner = getattr(self.hf, "transformer", None) or getattr(self.hf, "gpt_neox", None) or self.hf.model
        return getattr(inner, "ln_f", None) or getattr(inner, "final_layer_norm", None) or inner.norm

    def logits(self, tokens: Any) -> Tensor:
        with torch.no_grad():
            out = self.hf(
                tokens.ids,
                attention_mask=tokens.mask.long(),
                position_ids=tokens.positions.clamp(min=0),
                use_cache=False,
            )
        return out.logits[:, -1]

    def measured(self, *edits: Any) -> Tensor:
        with ExitStack() as stack:
            for edit in edits:
                stack.enter_context(edit)
            logits = self.logits(self.clean_tokens)
        rows = torch.arange(len(logits))
        return logits[rows, self.pairs.answer] - logits[rows, self.pairs.distractor]

    def seen(self, tokens: Any) -> dict[Any, Tensor]:
        """Streams, `z`, heads' joint output and MLPs' output of one run."""
        found: dict[Any, Tensor] = {}

        def note(key: Any) -> Callable[[Tensor], None]:
            return lambda value: found.update({key: value.clone()})

        with ExitStack() as stack:
            for layer, part in enumerate(self.parts):
                stack.enter_context(before(part.block, note(("stream", layer))))
                stack.enter_context(before(part.o, note(("z", layer))))
                stack.enter_context(after(part.o if part.post is None else part.post, note(("attention", layer))))
                stack.enter_context(after(part.branch_end, note(("mlp", layer))))
            self.logits(tokens)
        return found

    def written(self, run: dict[Any, Tensor], source: str) -> Tensor:
        if source == "input":
            return run["stream", 0]
        layer, head = self.layout.layer_and_head(source)
        if head is None:
            return run["mlp", layer]
        part = self.parts[layer]
        width = part.o_matrix.shape[0] // self.layout.n_heads[layer]
        own = slice(head * width, (head + 1) * width)
        write = run["z", layer][..., own] @ part.o_matrix[own]
        if part.post is None:
            return write
        joint = run["z", layer] @ part.o_matrix
        norm: Any = part.post
        eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        gain = 1 + norm.weight if "Gemma" in type(norm).__name__ else norm.weight
        return write * torch.rsqrt(joint.square().mean(-1, keepdim=True) + eps) * gain

    def difference(self, source: str) -> Tensor:
        """At clean columns, from the corrupt columns that stand for them; 0 on padding and where none does."""
        return self.aligned(self.written(self.corrupt, source), self.written(self.clean, source))

    def aligned(self, theirs: Tensor, ours: Tensor) -> Tensor:
        """Corrupt less clean values, likewise."""
        if self.corrupt_at is None:
            return (theirs - ours) * self.clean_tokens.mask[..., None]
        change = torch.zeros_like(ours)
        for row, columns in enumerate(self.corrupt_at):
            for column, at in enumerate(columns):
                if at >= 0:
                    change[row, column] = theirs[row, at] - ours[row, column]
        return change

    def edit(self, column: int, change: Tensor) -> Any:
        """What puts a changed stream into one destination's input alone."""
        if column == self.layout.logits_at:
            return before(self.final_norm, lambda stream: stream + change)
        name = self.layout.destinations[column]
        layer = int(name[1:].split(".")[0])
        part, stream = self.parts[layer], self.clean["stream", layer]
        if column == self.layout.mlp_input_at(layer):
            middle = stream if part.parallel else stream + self.clean["attention", layer]
            with torch.no_grad():
                alone = part.branch(middle + change)
            return after(part.branch_end, lambda out: alone)
        kind = name[-2]
        head = column - {
            "q": self.layout.queries_at,
            "k": self.layout.keys_at,
            "v": self.layout.values_at,
        }[kind](layer).start  # fmt: skip
        module, columns = part.qkv[kind], part.columns(kind, head)

        def put(out: Tensor) -> Tensor:
            new = out.clone()
            new[..., columns] = module.forward(part.norm(stream + change))[..., columns]
            return new

        return after(module, put)

    def effect(self, row: int, column: int) -> Tensor:
        """What the logit difference loses where the edge is patched, of each example."""
        change = self.difference(self.layout.sources[row])
        return self.value - self.measured(self.edit(column, change))
