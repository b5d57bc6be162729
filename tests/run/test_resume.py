"""A run resumed at a layer is the whole run, and leaves the model as it was."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.run.interventions import InterventionError
from circuitkit.run.resume import resumed, streams, whole_runs_only


def built(name: str, kind: str = "left_padded") -> tuple[ck.Model, dict[str, torch.Tensor]]:
    hf, tokenizer = architectures.build(name)
    prompts = architectures.prompts(kind)
    return ck.Model(hf, tokenizer), {"prompts": prompts.input_ids, "attention_mask": prompts.attention_mask}


@pytest.mark.parametrize("kind", ["equal", "left_padded"])
@pytest.mark.parametrize("name", architectures.NAMES)
def test_a_resumed_run_is_the_whole_one(name: str, kind: str) -> None:
    model, batch = built(name, kind)
    whole = model.run(**batch, capture=["resid_post"])
    entering = streams(model, model.tokens(batch["prompts"], batch["attention_mask"]))
    for layer in range(model.n_layers):
        with resumed(model, layer, entering[layer]):
            again = model.run(**batch, capture=[f"resid_post[layer={model.n_layers - 1}]"])
        real = batch["attention_mask"].bool()
        assert torch.equal(again.logits[real], whole.logits[real])
        last = f"resid_post[layer={model.n_layers - 1}]"
        assert torch.equal(again.cache[last][real], whole.cache[last][real])


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom", "openelm_style"])
def test_interventions_from_the_layer_on_give_what_they_give_in_a_whole_run(name: str) -> None:
    model, batch = built(name)
    entering = streams(model, model.tokens(batch["prompts"], batch["attention_mask"]))
    for site in ("resid_pre[layer=1, position=-1]", "z[layer=1, head=0]", "pattern[layer=2, head=1]"):
        edits = [ck.scale(site, 0.3)]
        whole = model.run(**batch, interventions=edits, logits_at=-1).logits
        with resumed(model, 1, entering[1]):
            again = model.run(**batch, interventions=edits, logits_at=-1).logits
        assert torch.equal(again, whole)
        assert not torch.allclose(again, model.run(**batch, logits_at=-1).logits, atol=1e-4)


def test_the_stream_given_is_the_one_that_is_run_on() -> None:
    model, batch = built("llama", "equal")
    other = model.run(batch["prompts"].flip(0), capture=["resid_pre"])
    with resumed(model, 1, other.cache["resid_pre[layer=1]"]):
        logits = model.run(**batch).logits
    assert torch.equal(logits, other.logits)


def test_layers_below_are_not_run() -> None:
    model, batch = built("llama")
    entering, ran = streams(model, model.tokens(batch["prompts"], batch["attention_mask"])), []
    for index, block in enumerate(model.anatomy.blocks):
        block.mlp.register_forward_hook(lambda module, args, output, index=index: ran.append(index))
    with resumed(model, 2, entering[2]):
        ran.clear()
        model.run(**batch)
    assert ran == [2]


def test_a_forward_that_was_overridden_comes_back_even_after_an_error() -> None:
    model, batch = built("gpt2")
    entering = streams(model, model.tokens(batch["prompts"], batch["attention_mask"]))
    blocks = [block.block for block in model.anatomy.blocks]
    own = blocks[0].forward

    def kept_here(*args: object, **kwargs: object) -> object:
        return own(*args, **kwargs)

    blocks[0].forward = kept_here
    with pytest.raises(RuntimeError, match="stop"), resumed(model, 2, entering[2]):
        assert blocks[0].forward is not kept_here
        raise RuntimeError("stop")
    assert blocks[0].forward is kept_here
    assert "forward" not in vars(blocks[1])
    assert not blocks[2]._forward_pre_hooks


def test_what_cannot_be_resumed_is_refused_by_name() -> None:
    model, batch = built("llama")
    entering = streams(model, model.tokens(batch["prompts"], batch["attention_mask"]))
    with pytest.raises(ValueError, match="layer 7 does not exist"), resumed(model, 7, entering[0]):
        pass
    with pytest.raises(InterventionError, match=r"\[3, 4, 32\] cannot enter at resid_pre\[layer=1\]"):  # noqa: SIM117
        with resumed(model, 1, entering[1][:, :4]):
            model.run(**batch)
    with pytest.raises(InterventionError, match="nothing was resumed at layer 1"), resumed(model, 1, entering[1]):
        pass
    model.config.num_kv_shared_layers = 1
    assert "reuse keys" in str(whole_runs_only(model))
    with pytest.raises(InterventionError, match="cannot be resumed"), resumed(model, 1, entering[1]):
        pass
