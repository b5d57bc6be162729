"""A sound model passes every check, and a broken one fails the check that names what is broken."""

from typing import Any

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import architectures
import circuitkit as ck
from circuitkit.doctor import Examination, examine


def built(name: str) -> ck.Model:
    hf, tokenizer = architectures.build(name)
    return ck.Model(hf, tokenizer, name=name)


def failed(examination: Examination) -> set[str]:
    return {check.name for check in examination.failed}


@pytest.mark.parametrize("name", architectures.NAMES)
def test_a_sound_model_passes_every_check(name: str) -> None:
    examination = examine(built(name))
    assert examination.ok, examination.table()
    assert [check.name for check in examination.checks if check.ok is None] == []
    figures = examination.frame.set_index("check")["figure"]
    assert figures["capturing leaves the logits alone"] == 0.0
    assert figures["a resumed run equals a whole one"] == 0.0
    assert figures["a changed pattern changes the logits"] > 1e-2
    assert figures.drop("a changed pattern changes the logits").max() < 1e-5


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_oss"])
def test_half_precision_is_held_against_its_own_rounding(name: str) -> None:
    hf, tokenizer = architectures.build(name)
    examination = examine(ck.Model(hf.to(torch.bfloat16), tokenizer))
    assert examination.ok, examination.table()
    assert examination.dtype == "bfloat16"


def test_prompts_of_ones_own_are_used() -> None:
    model = built("llama")
    assert examine(model, ["w5 w6 w7 w8 w9", "w10 w11 w12 w13"]).ok
    short = examine(model, ["w5 w6"]).frame.set_index("check")
    assert short.loc["cached equals uncached", "verdict"] == "not checked"
    assert "fewer than 4 tokens" in short.loc["cached equals uncached", "says"]


def test_position_ids_ignored() -> None:
    model = built("gpt2")

    def drop(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return args, {**kwargs, "position_ids": None}

    model.hf.transformer.register_forward_pre_hook(drop, with_kwargs=True)
    assert failed(examine(model)) == {"padded equals unpadded"}


def test_a_hook_that_perturbs() -> None:
    model = built("llama")
    model.hf.model.layers[1].mlp.register_forward_hook(lambda module, args, out: out + 0.1 * torch.randn_like(out))
    assert "capturing leaves the logits alone" in failed(examine(model))


def test_an_attention_kernel_that_is_not_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("llama")
    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def wrong(*args: Any, scaling: float, **kwargs: Any) -> Any:
        return sdpa(*args, scaling=scaling / 2, **kwargs)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", wrong)
    assert failed(examine(model)) == {"explicit attention equals the loaded one", "pattern times values is z"}


def test_positions_lost_while_decoding() -> None:
    model = built("gpt2")

    def forget(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        positions = kwargs["position_ids"]
        decoding = positions is not None and positions.shape[1] == 1
        return args, {**kwargs, "position_ids": torch.zeros_like(positions) if decoding else positions}

    model.hf.transformer.register_forward_pre_hook(forget, with_kwargs=True)
    assert failed(examine(model)) == {"cached equals uncached"}


def test_an_output_projection_that_is_not_linear() -> None:
    model = built("llama")
    model.hf.model.layers[1].self_attn.o_proj.register_forward_hook(lambda module, args, out: out * out.abs())
    examination = examine(model)
    assert failed(examination) == {"heads sum to the attention output"}
    assert "worst in layer 1" in examination.failed[0].says


def test_a_pattern_that_nothing_reads() -> None:
    model = built("llama")
    o_proj = model.hf.model.layers[1].self_attn.o_proj
    o_proj.weight.zero_()
    examination = examine(model)
    assert failed(examination) == {"a changed pattern changes the logits"}
    assert "worst in layer 1" in examination.failed[0].says


def test_a_layer_that_reads_another_than_the_stream() -> None:
    model = built("llama")
    kept: list[torch.Tensor] = []
    model.hf.model.embed_tokens.register_forward_hook(lambda module, args, out: kept.clear())
    layers = model.hf.model.layers
    layers[0].mlp.register_forward_hook(lambda module, args, out: kept.append(out))
    layers[2].mlp.register_forward_hook(lambda module, args, out: out + kept[-1] if kept else out)
    assert failed(examine(model)) == {"a resumed run equals a whole one"}


def test_what_cannot_be_checked_is_said() -> None:
    model = built("llama")
    model.config.num_kv_shared_layers = 1
    rows = examine(model).frame.set_index("check")
    assert rows.loc["a resumed run equals a whole one", "verdict"] == "not checked"
    assert "fall back to whole runs" in rows.loc["a resumed run equals a whole one", "says"]


def test_the_table_ends_in_the_reasons() -> None:
    model = built("gpt2")
    model.hf.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "position_ids": None}), with_kwargs=True
    )
    lines = examine(model).table().splitlines()
    assert lines[0] == "gpt2: float32 on cpu, attention sdpa"
    assert next(line.split()[-1] for line in lines if line.startswith("padded")) == "FAILED"
    assert lines[-1].startswith("padded equals unpadded: padding changes what the model computes")
