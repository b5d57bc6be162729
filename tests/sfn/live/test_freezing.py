"""Freezing: what is trained, by every kind of loop, and that what moves all the same is told by name."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments

import architectures
import circuitkit as ck
from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.live.freezing import FreezeError, freeze
from circuitkit.training import Example, TrainingError

TEXT = "Every wumpus is loud. Max is a wumpus. Prove: Max is loud."
PAIRS = [Example(TEXT, "Max is a wumpus. Max is loud."), Example("Every dumpus is shy.", "Max is shy.")]
FAST = {"progress": False, "batch_size": 2, "learning_rate": 3e-3, "max_steps": 2}
PAPER = ("o_proj", "embed", "lm_head", "norm")


@pytest.fixture
def model() -> ck.Model:
    return ck.load("deductor-5k-base")


def weights(hf: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in hf.named_parameters()}


def moved(hf: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in hf.named_parameters() if not torch.equal(tensor, before[name])}


def rows(model: ck.Model) -> list[dict]:
    ids = model.tokenizer(TEXT)["input_ids"]
    return [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}] * 4


def arguments(tmp_path, cls=TrainingArguments, **more):
    return cls(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        weight_decay=0.5,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **more,
    )


class Meddling(TrainerCallback):
    """Moves one weight while a model is trained."""

    def on_step_end(self, args, state, control, model=None, **_):
        with torch.no_grad():
            model.get_parameter("model.layers.0.mlp.up_proj.weight")[0, 0] += 1e-6


SETS = [
    ("o_proj", None, ["o_proj"]),
    (PAPER, None, ["o_proj", "embed", "norm"]),
    (["mlp"], [-1], ["layers.1.mlp"]),
    ("o_proj", np.int64(1), ["layers.1.self_attn.o_proj"]),
    ("v_proj", np.arange(1), ["layers.0.self_attn.v_proj"]),
    (["o_proj", "norm"], 0, ["layers.0.self_attn.o_proj", "layers.0.input_", "layers.0.post_", "model.norm"]),
    (["model.layers.*.self_attn.?_proj"], None, ["self_attn"]),
]


@pytest.mark.parametrize(("train", "layers", "moving"), SETS)
def test_what_is_named_alone_needs_a_gradient_and_is_counted(model, train, layers, moving):
    named = dict(model.hf.named_parameters())
    expected = [name for name in named if any(part in name for part in moving)]
    frozen = freeze(model, train, layers)
    assert list(frozen.names) == expected
    assert [name for name, each in named.items() if each.requires_grad] == expected
    assert frozen.trainable == sum(named[name].numel() for name in expected)
    # The tied embedding is there once.
    assert model.hf.lm_head.weight is model.hf.model.embed_tokens.weight
    assert frozen.total == sum(each.numel() for each in named.values())
    frozen.thaw()
    assert all(each.requires_grad for each in named.values())


def test_the_papers_counts_are_found_without_its_weights():
    config = architectures.ZOO["qwen2"]
    hf = config.build()
    found = freeze(hf, PAPER)
    assert found.trainable == sum(
        each.numel()
        for name, each in hf.named_parameters()
        if name.endswith("o_proj.weight") or "norm" in name or "embed" in name or "lm_head" in name
    )


def test_a_loop_by_hand_with_weight_decay_moves_nothing_frozen(model):
    ids = model.tokens(TEXT).ids
    # An optimizer that knows all parameters, with gradients from before the freeze.
    optimizer = torch.optim.AdamW(model.hf.parameters(), lr=1e-2, weight_decay=0.5)
    model.hf(input_ids=ids, labels=ids).loss.backward()
    before = weights(model.hf)
    with freeze(model, PAPER) as frozen:
        for _ in range(2):
            model.hf(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        frozen.verify()
    assert moved(model.hf, before) == set(frozen.names)
    assert all(each.requires_grad for each in model.hf.parameters())


def test_a_frozen_tensor_that_a_hook_moves_is_named_and_gradients_are_given_back(model):
    def meddling(module, inputs):
        with torch.no_grad():
            module.weight.mul_(1.0001)

    handle = model.hf.model.layers[1].self_attn.k_proj.register_forward_pre_hook(meddling)
    needing = {name: each.requires_grad for name, each in model.hf.named_parameters()}
    match = r"1 tensors .* model\.layers\.1\.self_attn\.k_proj\.weight"
    with pytest.raises(FreezeError, match=match), freeze(model, "o_proj") as frozen:
        model.run(TEXT)
    handle.remove()
    assert {name: each.requires_grad for name, each in model.hf.named_parameters()} == needing
    with pytest.raises(FreezeError, match="k_proj"):
        frozen.verify()


def test_a_buffer_that_is_saved_is_frozen_too():
    hf = architectures.build("llama")[0]
    hf.model.register_buffer("count", torch.zeros(1))
    frozen = freeze(hf, "o_proj")
    hf.model.count += 1
    with pytest.raises(FreezeError, match=r"model\.count"):
        frozen.verify()


def test_an_error_within_is_the_error_without(model):
    with pytest.raises(KeyError, match="mine"), freeze(model, "o_proj"):
        model.hf.model.norm.weight.data[0] = 7
        raise KeyError("mine")
    assert all(each.requires_grad for each in model.hf.parameters())


def test_freezes_nest(model):
    with freeze(model, ["o_proj", "v_proj"]):
        with freeze(model, "v_proj") as inner:
            assert {name for name, each in model.hf.named_parameters() if each.requires_grad} == set(inner.names)
        needing = {name for name, each in model.hf.named_parameters() if each.requires_grad}
        assert len(needing) == 4 and all("o_proj" in name or "v_proj" in name for name in needing)


REFUSED = [
    ("llama", "z_proj", None, r"no module 'z_proj'"),
    ("gpt2", "gate_proj", None, "has no gate_proj; it has"),
    ("gpt2", "q_proj", None, r"c_attn\.weight .* is q_proj and k_proj and v_proj in one tensor: name k_proj"),
    ("gpt2", "embed", None, r"wte\.weight .* is embed and lm_head in one tensor: name lm_head too"),
    ("gpt2", "lm_head", None, "name embed too"),
    ("llama", "o_proj", [7], "layer 7 does not exist"),
    ("llama", "o_proj", [], "leaves no weight"),
    ("llama", [], None, "leaves no weight"),
]


@pytest.mark.parametrize(("architecture", "train", "layers", "match"), REFUSED)
def test_what_is_not_there_or_not_to_be_had_alone_is_refused(architecture, train, layers, match):
    hf = architectures.ZOO[architecture].build()
    with pytest.raises(FreezeError, match=match):
        freeze(hf, train, layers)
    assert all(each.requires_grad for each in hf.parameters())


def test_fused_and_tied_tensors_are_trained_whole():
    hf = architectures.build("gpt2")[0]
    frozen = freeze(hf, ["q_proj", "k_proj", "v_proj", "embed", "lm_head"])
    assert {name.split(".")[-2] for name in frozen.names} == {"c_attn", "wte", "wpe"}
    assert frozen.trainable == sum(
        each.numel() for name, each in hf.named_parameters() if any(part in name for part in ("c_attn", "wte", "wpe"))
    )


def test_quantised_and_offloaded_weights_are_refused_by_name(model):
    projection = model.hf.model.layers[0].self_attn.o_proj
    projection.weight = torch.nn.Parameter(projection.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(FreezeError, match=r"layers\.0\.self_attn\.o_proj\.weight .* is quantised \(int8\)"):
        freeze(model, "o_proj")
    other = ck.load("deductor-5k-base")
    other.hf.model.norm.to("meta")
    with pytest.raises(FreezeError, match=r"model\.norm\.weight .* is offloaded"):
        freeze(other, "o_proj")


MOVED = (
    r"layers\.0\.self_attn\.q_proj\.weight of .* is divided among processes .*ck\.sfn\.moved\(before, after, train\)"
)


@pytest.mark.parametrize("mark", ["full_tensor", "_fsdp_flattened", "ds_status"])
def test_a_model_that_is_divided_meanwhile_is_refused_by_name_and_told_what_to_do(model, tmp_path, mark):
    frozen = freeze(model, "o_proj")
    # What FSDP 2, FSDP 1 and ZeRO-3 put on a parameter of which a process has a share.
    setattr(model.hf.model.layers[0].self_attn.q_proj.weight, mark, True)
    for refused in (frozen.verify, lambda: freeze(model, "v_proj")):
        with pytest.raises(FreezeError, match=MOVED):
            refused()
    trainer = Trainer(model.hf, arguments(tmp_path), train_dataset=rows(model), callbacks=[frozen.callback()])
    with pytest.raises(FreezeError, match=MOVED):
        trainer.train()
    frozen.thaw()
    assert all(each.requires_grad for each in model.hf.parameters())


def test_what_fsdp_divides_is_refused_by_name_frozen_grafted_or_given(model, monkeypatch):
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        frozen, whole = freeze(model, "o_proj"), ck.load("deductor-5k-base")
        fully_shard(model.hf, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(FreezeError, match="is divided among processes"):
            frozen.verify()
        for a, b in ((model, whole), (whole, model)):
            with (
                pytest.raises(SfnError, match=r"embed_tokens\.weight of .* is divided among processes \(FSDP"),
                ck.sfn.grafted(a, b, "o_proj"),
            ):
                pass
    finally:
        distributed.destroy_process_group()


def test_a_trainer_that_accumulates_gradients_verifies_once_at_the_end(model, tmp_path, monkeypatch):
    before, verified = weights(model.hf), []
    frozen = freeze(model, "o_proj")
    monkeypatch.setattr(frozen, "verify", lambda: verified.append(moved(model.hf, before)))
    settings = arguments(tmp_path, gradient_accumulation_steps=2)
    Trainer(model.hf, settings, train_dataset=rows(model), callbacks=[frozen.callback()]).train()
    assert verified == [set(frozen.names)]


def test_a_trainer_trains_what_is_free_and_verifies_at_the_end(model, tmp_path):
    before = weights(model.hf)
    with freeze(model, PAPER) as frozen:
        trainer = Trainer(model.hf, arguments(tmp_path), train_dataset=rows(model), callbacks=[frozen.callback()])
        trainer.train()
    assert moved(model.hf, before) == set(frozen.names)


def test_a_trainer_whose_frozen_weights_move_ends_in_an_error(model, tmp_path):
    frozen = freeze(model, PAPER)
    callbacks = [Meddling(), frozen.callback()]
    trainer = Trainer(model.hf, arguments(tmp_path), train_dataset=rows(model), callbacks=callbacks)
    with pytest.raises(FreezeError, match=r"model\.layers\.0\.mlp\.up_proj\.weight"):
        trainer.train()


def test_a_trainer_of_another_model_or_of_more_is_stopped_at_the_start(model, tmp_path):
    frozen, other = freeze(model, "o_proj"), ck.load("deductor-5k-base")
    trainer = Trainer(other.hf, arguments(tmp_path), train_dataset=rows(model), callbacks=[frozen.callback()])
    with pytest.raises(FreezeError, match="another model is trained than deductor-5k-base"):
        trainer.train()
    model.hf.model.norm.weight.requires_grad_(True)
    trainer = Trainer(model.hf, arguments(tmp_path), train_dataset=rows(model), callbacks=[frozen.callback()])
    with pytest.raises(FreezeError, match=r"model\.norm\.weight of .* is trained and was frozen"):
        trainer.train()


def test_trls_trainer_trains_what_is_free(model, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    before = weights(model.hf)
    with freeze(model, "o_proj") as frozen:
        trainer = SFTTrainer(
            model=model.hf,
            args=arguments(tmp_path, SFTConfig, bf16=False),
            train_dataset=Dataset.from_list([{"text": TEXT}] * 4),
            processing_class=model.tokenizer,
            callbacks=[frozen.callback()],
        )
        trainer.train()
    assert moved(model.hf, before) == set(frozen.names)


def adapted(model: ck.Model):
    config = LoraConfig(r=2, target_modules=["q_proj", "o_proj"], modules_to_save=["norm"], task_type="CAUSAL_LM")
    return get_peft_model(model.hf, config)


def test_of_a_peft_model_the_adapters_are_trained_and_the_base_stays(model, tmp_path):
    peft = adapted(model)
    before = weights(peft)
    with freeze(peft, ["o_proj", "model.norm"], layers=[0]) as frozen:
        trainer = Trainer(peft, arguments(tmp_path), train_dataset=rows(model), callbacks=[frozen.callback()])
        trainer.train()
    there = {"model.layers.0.self_attn.o_proj.lora_A.default.weight", "model.norm.modules_to_save.default.weight"}
    assert there <= set(frozen.names) and len(frozen.names) == 3
    # Where B is zero, A has no gradient in the first step, and some in the second.
    assert moved(peft, before) == {f"base_model.model.{name}" for name in frozen.names}
    assert frozen.total == sum(each.numel() for each in peft.parameters())


def test_modules_without_an_adapter_are_refused_by_name(model):
    peft = adapted(model)
    with pytest.raises(FreezeError, match=r"layers\.0\.self_attn\.v_proj\.weight .* has no adapter"):
        freeze(ck.Model(peft), "v_proj")
    with freeze(peft, "o_proj"), pytest.raises(FreezeError, match=r"q_proj.* that needs a gradient.* thaw what froze"):
        freeze(peft, "q_proj")
    peft.requires_grad_(False)
    with pytest.raises(FreezeError, match="needs a gradient: load it with"):
        freeze(peft, "o_proj")


def test_merging_an_adapter_into_a_frozen_base_is_told(model):
    peft = adapted(model)
    with torch.no_grad():
        for name, each in peft.named_parameters():
            if "lora_B" in name:
                each.fill_(0.1)
    frozen = freeze(peft, "o_proj")
    peft.merge_adapter()
    with pytest.raises(FreezeError, match=r"base_layer\.weight"):
        frozen.verify()
    peft.unmerge_adapter()


def test_training_without_names_trains_what_is_free(model, tmp_path):
    before = weights(model.hf)
    with freeze(model, "o_proj", layers=[1]) as frozen:
        trained = ck.train(model, PAIRS, out=tmp_path / "free", weight_decay=0.5, **FAST)
        assert [name for name, each in model.hf.named_parameters() if each.requires_grad] == list(frozen.names)
    assert moved(model.hf, before) == set(frozen.names)
    assert (trained.trainable, trained.total) == (frozen.trainable, frozen.total)
    named = ck.load("deductor-5k-base")
    ck.train(named, PAIRS, out=tmp_path / "named", weight_decay=0.5, train="o_proj", layers=[1], **FAST)
    assert not moved(named.hf, weights(model.hf))
    # Thawed, the same call is another training, and its folder says so.
    with pytest.raises(TrainingError, match="frozen before"):
        ck.train("deductor-5k-base", PAIRS, out=tmp_path / "free", weight_decay=0.5, **FAST)


def test_training_what_is_frozen_is_refused_and_less_than_is_free_is_not(model, tmp_path):
    with freeze(model, ["o_proj", "v_proj"]):
        for settings in ({"train": "mlp"}, {"layers": (0,)}, {"lora": {"rank": 1, "roles": ["q_proj"]}}):
            with pytest.raises(TrainingError, match=r"is frozen \(it needs no gradient\), and this training"):
                ck.train(model, PAIRS, out=tmp_path / "refused", **FAST, **settings)
        before = weights(model.hf)
        ck.train(model, PAIRS, out=tmp_path / "less", train="v_proj", **FAST)
        assert all("v_proj" in name for name in moved(model.hf, before))
        before = weights(model.hf)
        ck.train(model, PAIRS, out=tmp_path / "lora", lora={"rank": 1, "roles": ["o_proj"]}, **FAST)
        assert all("o_proj" in name for name in moved(model.hf, before))


def test_a_model_that_was_made_ready_to_be_run_is_trained_whole(model, tmp_path):
    model.hf.requires_grad_(False)
    before = weights(model.hf)
    ck.train(model, PAIRS, out=tmp_path, **FAST)
    assert moved(model.hf, before) == set(before)


def test_four_bits_count_as_the_numbers_that_they_stand_for(model):
    # Two numbers of four bits lie in a byte, as bitsandbytes keeps them, with their own shape beside them.
    weight = model.hf.model.layers[0].mlp.up_proj.weight
    packed = torch.nn.Parameter(torch.zeros(weight.numel() // 2, 1, dtype=torch.uint8), requires_grad=False)
    packed.quant_state = torch.zeros(weight.shape)
    total = freeze(model, "o_proj").total
    model.hf.model.layers[0].mlp.up_proj.weight = packed
    assert freeze(model, "o_proj").total == total
