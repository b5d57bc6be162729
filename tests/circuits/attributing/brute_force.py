"""Edge scores by their definition: a copy of the stream for each destination, and autograd.

Written from the definition on transformers' own modules; nothing of the package is used. A destination's copy is the
stream plus a tensor of zeros of its own, whose gradient is the one that is asked for.
"""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Parts:
    """One layer's modules, and which outputs of its projections are whose."""

    block: nn.Module
    norm: nn.Module | None
    q: nn.Module
    k: nn.Module
    v: nn.Module
    q_rows: Tensor
    k_rows: Tensor
    v_rows: Tensor
    o: nn.Module
    mlp: nn.Module
    mlp_norm: nn.Module | None
    post: nn.Module | None = None
    mlp_post: nn.Module | None = None
    parallel: bool = False


def _separate(hf: Any, block: Any, norm: Any, mlp_norm: Any, **more: Any) -> Parts:
    attn, config = block.self_attn, hf.config
    heads, shared = config.num_attention_heads, config.num_key_value_heads
    d_head = attn.q_proj.weight.shape[0] // heads
    q, kv = torch.arange(heads * d_head).view(heads, -1), torch.arange(shared * d_head).view(shared, -1)
    return Parts(
        block, norm, attn.q_proj, attn.k_proj, attn.v_proj, q, kv, kv, attn.o_proj, block.mlp, mlp_norm, **more
    )


def parts(hf: Any, name: str) -> tuple[list[Parts], nn.Module]:
    """Each layer's parts, and the norm before the logits."""
    if name == "gpt2":
        heads = hf.config.n_head
        whole = torch.arange(3 * hf.config.n_embd).view(3, heads, -1)
        return [
            Parts(b, b.ln_1, *[b.attn.c_attn] * 3, *whole, b.attn.c_proj, b.mlp, b.ln_2) for b in hf.transformer.h
        ], hf.transformer.ln_f
    if name == "gpt_neox":
        heads = hf.config.num_attention_heads
        whole = torch.arange(3 * hf.config.hidden_size).view(heads, 3, -1).transpose(0, 1)
        return [
            Parts(
                b,
                b.input_layernorm,
                *[b.attention.query_key_value] * 3,
                *whole,
                b.attention.dense,
                b.mlp,
                b.post_attention_layernorm,
                parallel=True,
            )
            for b in hf.gpt_neox.layers
        ], hf.gpt_neox.final_layer_norm
    if name == "falcon_multi_query":
        heads = hf.config.num_attention_heads
        rows = torch.arange((heads + 2) * (hf.config.hidden_size // heads)).view(heads + 2, -1)
        return [
            Parts(
                b,
                b.input_layernorm,
                *[b.self_attention.query_key_value] * 3,
                rows[:-2],
                rows[-2:-1],
                rows[-1:],
                b.self_attention.dense,
                b.mlp,
                b.input_layernorm,
                parallel=True,
            )
            for b in hf.transformer.h
        ], hf.transformer.ln_f
    layers = hf.model.layers
    if name in ("gemma2", "gemma3"):
        return [
            _separate(
                hf,
                b,
                b.input_layernorm,
                b.pre_feedforward_layernorm,
                post=b.post_attention_layernorm,
                mlp_post=b.post_feedforward_layernorm,
            )
            for b in layers
        ], hf.model.norm
    if name == "olmo2":
        return [
            _separate(hf, b, None, None, post=b.post_attention_layernorm, mlp_post=b.post_feedforward_layernorm)
            for b in layers
        ], hf.model.norm
    return [_separate(hf, b, b.input_layernorm, b.post_attention_layernorm) for b in layers], hf.model.norm


@contextmanager
def _forward(module: nn.Module, new: Callable[..., Any]) -> Any:
    module.forward = new
    try:
        yield
    finally:
        del module.forward


def _stream(args: Any, kwargs: Any) -> Tensor:
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


def _logits(hf: Any, ids: Tensor, mask: Tensor) -> Tensor:
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    arguments = {"input_ids": ids, "attention_mask": mask.long(), "use_cache": False}
    if hf.config.model_type != "falcon":
        arguments["position_ids"] = positions
    return hf(**arguments).logits


def written(hf: Any, name: str, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What each source writes, `[source, batch, position, d_model]`; what enters the first layer; the logits."""
    layers, _ = parts(hf, name)
    seen: dict[Any, Tensor] = {}

    def keep(key: Any) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            seen[key] = _stream(args, kwargs).detach().clone()

        return hook

    def keep_output(key: Any) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            seen[key] = output[0].detach().clone() if isinstance(output, tuple) else output.detach().clone()

        return hook

    with ExitStack() as stack, torch.no_grad():
        stack.callback(layers[0].block.register_forward_pre_hook(keep("input"), with_kwargs=True).remove)
        for number, layer in enumerate(layers):
            stack.callback(layer.o.register_forward_pre_hook(keep(("z", number)), with_kwargs=True).remove)
            last = layer.mlp if layer.mlp_post is None else layer.mlp_post
            stack.callback(last.register_forward_hook(keep_output(("mlp", number))).remove)
        logits = _logits(hf, ids, mask)
    made = [seen["input"]]
    with torch.no_grad():
        for number, layer in enumerate(layers):
            made += _by_heads(layer, seen["z", number])
            made.append(seen["mlp", number])
    return torch.stack(made), seen["input"], logits


def _by_heads(layer: Parts, z: Tensor) -> list[Tensor]:
    heads = len(layer.q_rows)
    nothing = layer.o(torch.zeros_like(z))
    whole = layer.o(z)
    made = []
    for head in range(heads):
        alone = torch.zeros_like(z).view(*z.shape[:2], heads, -1)
        alone[:, :, head] = z.view(*z.shape[:2], heads, -1)[:, :, head]
        made.append(layer.o(alone.flatten(2)) - nothing)
    if layer.post is None:
        return made
    eps = getattr(layer.post, "eps", None) or layer.post.variance_epsilon
    gain = layer.post.weight + 1 if "Gemma" in type(layer.post).__name__ else layer.post.weight
    root = (whole.square().mean(-1, keepdim=True) + eps).rsqrt()
    return [each * root * gain for each in made]


class Copies:
    """The model with a copy of the stream for each destination."""

    def __init__(self, hf: Any, name: str, like: Tensor) -> None:
        self.hf, self.like = hf, like
        self.layers, self.final = parts(hf, name)
        self.own: list[Tensor] = []
        self.streams: dict[int, Tensor] = {}

    def copy(self) -> Tensor:
        self.own.append(torch.zeros_like(self.like, requires_grad=True))
        return self.own[-1]

    def gradients(
        self,
        ids: Tensor,
        mask: Tensor,
        entering: Tensor,
        value: Callable[[Tensor], Tensor],
        instead: tuple[nn.Module, Tensor] | None = None,
    ) -> Tensor:
        """The value's gradient at each destination's copy, `[destination, batch, position, d_model]`.

        Where a module and a tensor are given, the module gives that tensor instead of its own output.
        """
        with ExitStack() as stack:
            if instead is not None:
                stack.callback(instead[0].register_forward_hook(lambda module, args, output: instead[1]).remove)

            def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
                if any(isinstance(each, Tensor) for each in args):
                    return (entering, *args[1:]), kwargs
                return args, {**kwargs, "hidden_states": entering}

            stack.callback(self.layers[0].block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            for number, layer in enumerate(self.layers):
                self._hold(number, layer, stack)
            last = self.copy()
            stack.callback(self.final.register_forward_pre_hook(lambda module, args: (args[0] + last,)).remove)
            logits = _logits(self.hf, ids, mask)
            return torch.stack(torch.autograd.grad(value(logits).sum(), self.own, materialize_grads=True))

    def _hold(self, number: int, layer: Parts, stack: ExitStack) -> None:
        def see(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.streams[number] = _stream(args, kwargs)

        stack.callback(layer.block.register_forward_pre_hook(see, with_kwargs=True).remove)
        projections: dict[nn.Module, list[tuple[Tensor, list[Tensor]]]] = {}
        for module, rows in ((layer.q, layer.q_rows), (layer.k, layer.k_rows), (layer.v, layer.v_rows)):
            projections.setdefault(module, []).append((rows, [self.copy() for _ in rows]))
        for module, read in projections.items():
            stack.enter_context(_forward(module, self._projected(number, layer.norm, module, read)))
        own = self.copy()
        if layer.mlp_norm is layer.norm and layer.norm is not None:
            whole = layer.mlp.forward
            norm = layer.norm
            stack.enter_context(_forward(layer.mlp, lambda n: whole(norm(self.streams[number] + own))))
        else:
            reader = layer.mlp if layer.mlp_norm is None else layer.mlp_norm
            stack.callback(reader.register_forward_pre_hook(lambda module, args: (args[0] + own,)).remove)

    def _projected(
        self, number: int, norm: nn.Module | None, module: nn.Module, read: list[tuple[Tensor, list[Tensor]]]
    ) -> Callable[[Tensor], Tensor]:
        whole = module.forward

        def project(handed: Tensor) -> Tensor:
            made = whole(handed).clone()
            for rows, copies in read:
                for columns, own in zip(rows, copies, strict=True):
                    stream = self.streams[number] + own
                    made[..., columns] = whole(stream if norm is None else norm(stream))[..., columns]
            return made

        return project


def edge_scores(
    hf: Any,
    name: str,
    clean: tuple[Tensor, Tensor],
    corrupt: tuple[Tensor, Tensor],
    metric: Callable[[Tensor], Tensor],
    alphas: list[float],
    corrupt_at: Tensor | None = None,
    *,
    positions: bool = False,
) -> Tensor:
    """Scores `[batch, source, destination]`, 0 where there is no edge, by the mean gradient at the points `alphas`.

    Args:
        hf: the model.
        name: its name in the zoo.
        clean, corrupt: token ids and their mask.
        metric: takes all logits of the clean prompts.
        alphas: 0 is corrupt, 1 clean.
        corrupt_at: the corrupt column of each clean one, −1 where there is none.
        positions: keep them apart, `[batch, position, source, destination]`.
    """
    difference, clean_input, corrupt_input = differences(hf, name, clean, corrupt, corrupt_at)
    total = 0
    for alpha in alphas:
        entering = corrupt_input + alpha * (clean_input - corrupt_input)
        gradients = Copies(hf, name, clean_input).gradients(*clean, entering, lambda logits: -metric(logits))
        total = total + by_position(difference, gradients) / len(alphas)
    return total.masked_fill(~reach(hf, name), 0.0) if positions else total.sum(1).masked_fill(~reach(hf, name), 0.0)


def by_position(difference: Tensor, gradients: Tensor) -> Tensor:
    """Sources held against destinations, `[batch, position, source, destination]`."""
    return torch.einsum("sbpd,vbpd->bpsv", difference, gradients)


def differences(
    hf: Any, name: str, clean: tuple[Tensor, Tensor], corrupt: tuple[Tensor, Tensor], corrupt_at: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What sources write differently at clean columns, and both inputs there; none where there is no counterpart."""
    ours, clean_input, _ = written(hf, name, *clean)
    theirs, corrupt_input, _ = written(hf, name, *corrupt)
    difference = torch.stack([at_clean(theirs[row], each, clean, corrupt_at) - each for row, each in enumerate(ours)])
    return difference, clean_input, at_clean(corrupt_input, clean_input, clean, corrupt_at)


def at_clean(corrupt: Tensor, own: Tensor, clean: tuple[Tensor, Tensor], corrupt_at: Tensor | None) -> Tensor:
    """What stands at the corrupt columns of the clean ones; the clean run's own where there is no counterpart."""
    if corrupt_at is None:
        corrupt_at = torch.arange(clean[0].shape[1]).expand_as(clean[0]).masked_fill(~clean[1].bool(), -1)
    aligned = own.clone()
    for row, columns in enumerate(corrupt_at.tolist()):
        for column, at in enumerate(columns):
            if at >= 0:
                aligned[row, column] = corrupt[row, at]
    return aligned


def activation_scores(
    hf: Any,
    name: str,
    clean: tuple[Tensor, Tensor],
    corrupt: tuple[Tensor, Tensor],
    metric: Callable[[Tensor], Tensor],
    alphas: list[float],
    corrupt_at: Tensor | None = None,
) -> Tensor:
    """Scores `[batch, source, destination]`, each source's by the gradient on its own group's way."""
    difference, clean_input, corrupt_input = differences(hf, name, clean, corrupt, corrupt_at)
    scores = torch.zeros(len(clean_input), len(difference), reach(hf, name).shape[1])
    layers, _ = parts(hf, name)
    groups: list[tuple[list[int], nn.Module | None]] = [([0], None)]
    row = 1
    for layer in layers:
        heads = len(layer.q_rows)
        groups.append((list(range(row, row + heads)), layer.o if layer.post is None else layer.post))
        groups.append(([row + heads], layer.mlp if layer.mlp_post is None else layer.mlp_post))
        row += heads + 1
    for rows, module in groups:
        outputs: list[Tensor] = []
        if module is not None:
            # Some layers go on to write into what they are given.
            keep = module.register_forward_hook(lambda module, args, output, kept=outputs: kept.append(output.clone()))
            with torch.no_grad():
                for ids, mask in (clean, corrupt):
                    _logits(hf, ids, mask)
            keep.remove()
            outputs[1] = at_clean(outputs[1], outputs[0], clean, corrupt_at)
        for alpha in alphas:
            entering, instead = clean_input, None
            if module is None:
                entering = corrupt_input + alpha * (clean_input - corrupt_input)
            else:
                instead = (module, outputs[1] + alpha * (outputs[0] - outputs[1]))
            gradients = Copies(hf, name, clean_input).gradients(
                *clean, entering, lambda logits: -metric(logits), instead
            )
            scores[:, rows] += by_position(difference[rows], gradients).sum(1) / len(alphas)
    return scores.masked_fill(~reach(hf, name), 0.0)


def reach(hf: Any, name: str) -> Tensor:
    """Which sources write before which destinations read."""
    layers, _ = parts(hf, name)
    counts = [(len(each.q_rows), len(each.k_rows)) for each in layers]
    n_sources = 1 + sum(heads + 1 for heads, _ in counts)
    columns = []
    before = 1
    for layer, (heads, shared) in zip(layers, counts, strict=True):
        reads = torch.arange(n_sources) < before
        columns += [reads] * (heads + 2 * shared)
        columns.append(reads if layer.parallel else torch.arange(n_sources) < before + heads)
        before += heads + 1
    columns.append(torch.ones(n_sources, dtype=torch.bool))
    return torch.stack(columns, dim=1)
