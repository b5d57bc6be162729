"""A small decoder in the manner of OpenELM, to be trained from nothing, since its own code is not in transformers.

Head counts and feed-forward widths differ from layer to layer. It also has what makes such models hard to tap, which
the tests use it for: one projection for queries, keys and values, and attention by a direct call of
``scaled_dot_product_attention`` instead of the interface of transformers. Module and setting names are those
of the published checkpoints; the code is written from the paper (Mehta et al. 2024, arXiv 2404.14619).
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


class OpenELMConfig(PretrainedConfig):
    """The settings of the decoder; query heads and feed-forward multipliers are lists with an entry a layer."""

    model_type = "openelm"

    def __init__(
        self,
        vocab_size: int = 96,
        max_context_length: int = 128,
        num_transformer_layers: int = 3,
        model_dim: int = 48,
        head_dim: int = 8,
        num_query_heads: list[int] | None = None,
        num_kv_heads: list[int] | None = None,
        num_gqa_groups: int = 2,
        ffn_multipliers: list[float] | None = None,
        ffn_dim_divisor: int = 8,
        ffn_with_glu: bool = True,
        activation_fn_name: str = "swish",
        normalization_layer_name: str = "rms_norm",
        normalize_qk_projections: bool = True,
        share_input_output_layers: bool = False,
        rope_freq_constant: int = 10000,
        rope_max_length: int = 256,
        initializer_range: float = 0.02,
        use_cache: bool = True,
        bos_token_id: int = 1,
        eos_token_id: int = 1,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.max_context_length = max_context_length
        self.num_transformer_layers = num_transformer_layers
        self.model_dim = model_dim
        self.head_dim = head_dim
        self.num_query_heads = num_query_heads or [4, 6, 2]
        self.num_kv_heads = num_kv_heads or [2, 3, 1]
        self.num_gqa_groups = num_gqa_groups
        self.ffn_multipliers = ffn_multipliers or [1.0, 1.5, 2.0]
        self.ffn_dim_divisor = ffn_dim_divisor
        self.ffn_with_glu = ffn_with_glu
        self.activation_fn_name = activation_fn_name
        self.normalization_layer_name = normalization_layer_name
        self.normalize_qk_projections = normalize_qk_projections
        self.share_input_output_layers = share_input_output_layers
        self.rope_freq_constant = rope_freq_constant
        self.rope_max_length = rope_max_length
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        # Generation asks every config for its depth by this name when it makes a cache.
        self.num_hidden_layers = num_transformer_layers
        kwargs.pop("num_hidden_layers", None)
        kwargs["tie_word_embeddings"] = share_input_output_layers
        super().__init__(bos_token_id=bos_token_id, eos_token_id=eos_token_id, **kwargs)


class OpenELMRMSNorm(nn.Module):
    """Root-mean-square norm with a gain."""

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Norm the last axis."""
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def rotate(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Rotates ``x`` [batch, head, position, d_head], its halves paired, by ``positions`` [batch, position]."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = positions[:, None, :, None].float() * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class OpenELMMultiHeadCausalAttention(nn.Module):
    """Attention with as many query, key and value heads as its layer has."""

    def __init__(self, config: OpenELMConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.rope_freq_constant = config.rope_freq_constant
        self.num_q_heads = config.num_query_heads[layer_idx]
        self.num_k_heads = self.num_v_heads = config.num_kv_heads[layer_idx]
        self.num_groups = self.num_q_heads // self.num_k_heads
        heads = self.num_q_heads + self.num_k_heads + self.num_v_heads
        self.qkv_proj = nn.Linear(config.model_dim, heads * self.head_dim, bias=False)
        self.q_norm = OpenELMRMSNorm(self.head_dim) if config.normalize_qk_projections else None
        self.k_norm = OpenELMRMSNorm(self.head_dim) if config.normalize_qk_projections else None
        self.out_proj = nn.Linear(self.num_q_heads * self.head_dim, config.model_dim, bias=False)

    def forward(
        self, hidden_states: Tensor, mask: Tensor, positions: Tensor, past_key_values: Cache | None = None
    ) -> Tensor:
        """Attend; positions are [batch, position], the mask is added to the scores."""
        batch, length, _ = hidden_states.shape
        qkv = self.qkv_proj(hidden_states).view(batch, length, -1, self.head_dim).transpose(1, 2)
        query, key, value = qkv.split([self.num_q_heads, self.num_k_heads, self.num_v_heads], dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query = rotate(query, positions, self.rope_freq_constant)
        key = rotate(key, positions, self.rope_freq_constant)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        key = key.repeat_interleave(self.num_groups, dim=1)
        value = value.repeat_interleave(self.num_groups, dim=1)
        z = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=0.0)
        return self.out_proj(z.transpose(1, 2).reshape(batch, length, -1))


class OpenELMFeedForwardNetwork(nn.Module):
    """A feed-forward network as wide as its layer has it."""

    def __init__(self, config: OpenELMConfig, layer_idx: int) -> None:
        super().__init__()
        divisor = config.ffn_dim_divisor
        width = int(config.ffn_multipliers[layer_idx] * config.model_dim) // divisor * divisor
        self.ffn_with_glu = config.ffn_with_glu
        self.proj_1 = nn.Linear(config.model_dim, 2 * width if self.ffn_with_glu else width, bias=False)
        self.proj_2 = nn.Linear(width, config.model_dim, bias=False)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """Give what is added to the stream."""
        hidden = self.proj_1(x)
        if not self.ffn_with_glu:
            return self.proj_2(self.act(hidden))
        gate, up = hidden.chunk(2, dim=-1)
        return self.proj_2(self.act(gate) * up)


class OpenELMDecoderLayer(nn.Module):
    """Attention and feed-forward, each behind a norm."""

    def __init__(self, config: OpenELMConfig, layer_idx: int) -> None:
        super().__init__()
        self.attn = OpenELMMultiHeadCausalAttention(config, layer_idx)
        self.ffn = OpenELMFeedForwardNetwork(config, layer_idx)
        self.attn_norm = OpenELMRMSNorm(config.model_dim)
        self.ffn_norm = OpenELMRMSNorm(config.model_dim)

    def forward(
        self, hidden_states: Tensor, mask: Tensor, positions: Tensor, past_key_values: Cache | None = None
    ) -> tuple[Tensor]:
        """Give the stream after the layer."""
        attended = self.attn(self.attn_norm(hidden_states), mask, positions, past_key_values)
        hidden_states = hidden_states + attended
        # A tuple, as the published code returns: whoever taps a layer's output must cope with it.
        return (hidden_states + self.ffn(self.ffn_norm(hidden_states)),)


class OpenELMPreTrainedModel(PreTrainedModel):
    """What loading and initialisation ask of a model."""

    config_class = OpenELMConfig
    base_model_prefix = "transformer"
    _no_split_modules = ("OpenELMDecoderLayer",)
    _supports_sdpa = True


def causal_mask(
    length: int, past: int, attention_mask: Tensor | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What is added to the scores, [batch or 1, 1, query, key]: 0, or the dtype's minimum at hidden keys."""
    queries = torch.arange(past, past + length, device=device)[:, None]
    seen = (torch.arange(past + length, device=device) <= queries)[None, None]
    if attention_mask is not None:
        seen = seen & attention_mask[:, None, None, :].bool()
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)


class OpenELMModel(OpenELMPreTrainedModel):
    """The decoder without its head."""

    def __init__(self, config: OpenELMConfig) -> None:
        super().__init__(config)
        self.token_embeddings = nn.Embedding(config.vocab_size, config.model_dim)
        layers = range(config.num_transformer_layers)
        self.layers = nn.ModuleList(OpenELMDecoderLayer(config, layer) for layer in layers)
        self.norm = OpenELMRMSNorm(config.model_dim)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Give the embedding."""
        return self.token_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another embedding in place."""
        self.token_embeddings = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Give the stream behind the last norm."""
        hidden = self.token_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        length = hidden.shape[1]
        if position_ids is None:
            position_ids = torch.arange(past, past + length, device=hidden.device)[None]
        mask = causal_mask(length, past, attention_mask, hidden.dtype, hidden.device)
        hidden_states = [hidden]
        for layer in self.layers:
            (hidden,) = layer(hidden, mask, position_ids, past_key_values)
            hidden_states.append(hidden)
        hidden = self.norm(hidden)
        hidden_states[-1] = hidden
        return BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=past_key_values,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
        )


class OpenELMForCausalLM(OpenELMPreTrainedModel, GenerationMixin):
    """The decoder with its head, which may be the embedding's transpose."""

    def __init__(self, config: OpenELMConfig) -> None:
        super().__init__(config)
        self.transformer = OpenELMModel(config)
        if config.share_input_output_layers:
            self.lm_head = None
        else:
            self.lm_head = nn.Linear(config.model_dim, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Give the embedding."""
        return self.transformer.token_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Put another embedding in place."""
        self.transformer.token_embeddings = value

    def get_output_embeddings(self) -> nn.Module | None:
        """Give the head, None where it is the embedding's transpose."""
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Give the logits, and the loss where there are labels."""
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        hidden = outputs.last_hidden_state[:, kept]
        if self.lm_head is None:
            logits = nn.functional.linear(hidden, self.transformer.token_embeddings.weight)
        else:
            logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )


# A saved folder then loads by its model type alone, without running code kept beside the weights.
AutoConfig.register("openelm", OpenELMConfig, exist_ok=True)
AutoModelForCausalLM.register(OpenELMConfig, OpenELMForCausalLM, exist_ok=True)
