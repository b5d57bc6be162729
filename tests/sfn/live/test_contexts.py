"""Grafting and destruction in memory: what is written, nothing kept but what is replaced, and undone bit for bit."""

import gc
import re
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import circuitkit as ck
from circuitkit.model.fingerprint import fingerprint
from circuitkit.sfn.destructions.destruction import destroy
from circuitkit.sfn.destructions.passing import PassingError
from circuitkit.sfn.errors import CheckpointError, PairError, SelectionError
from circuitkit.sfn.live.contexts import destroyed, grafted
from circuitkit.sfn.live.homes import LiveError
from circuitkit.sfn.merges.grafting import MergeError
from circuitkit.sfn.merges.merging import merge
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.checkpoint import Checkpoint
from sfn import toys

A, B = "deductor-130k-base", "deductor-130k-reason"
TEXT = "Every wumpus is loud. Max is a wumpus."
QUICK = ("llama", "gpt2", "phi3", "mixtral", "gpt_neox")


def state(model: ck.Model) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.hf.state_dict().items()}


def changed(model: ck.Model, before: dict[str, Tensor]) -> set[str]:
    now = model.hf.state_dict()
    return {name for name in before if not torch.equal(bits(now[name]), bits(before[name]))}


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().view(torch.uint8) if tensor.ndim else tensor


@pytest.fixture
def model() -> ck.Model:
    return ck.load(A)


@pytest.fixture
def twin() -> ck.Model:
    return ck.load(B)


# What is written

CHOSEN = [
    {"modules": ["o_proj"]},
    {"modules": ["attention"], "layers": [0, -1], "biases": True},
    {"modules": ["mlp", "norm"], "alpha": 0.3},
    {"modules": ["o_proj", "q_proj"], "heads": [(0, 1), (2, -1)], "alpha": 1.7},
    {"modules": "all"},
]


@pytest.mark.parametrize("architecture", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in toys.NAMES)])
def test_a_graft_in_memory_is_the_merged_folder(architecture, tmp_path):
    into = toys.written(architecture, tmp_path / "a", seed=0)
    donor = toys.written(architecture, tmp_path / "b", seed=1, shards=3)
    model = ck.load(into, **own_code(architecture))
    before = state(model)
    for number, asked in enumerate(CHOSEN):
        if architecture == "openelm_style" and "heads" in asked:
            continue
        merge(into, donor, out=tmp_path / str(number), progress=False, **asked)
        with grafted(model, donor, **asked):
            assert not changed(model, state(ck.load(tmp_path / str(number), **own_code(architecture))))
            assert changed(model, before)
        assert not changed(model, before)


def own_code(architecture: str) -> dict:
    return {"trust_remote_code": True} if architecture == "openelm_style" else {}


HOWS = [
    {"modules": ["q_proj"], "how": "zero"},
    {"modules": ["mlp"], "layers": [1], "how": "reinit", "sigma": 0.1},
    {"modules": ["attention", "norm"], "layers": [0], "how": "init"},
    {"modules": ["o_proj", "up_proj"], "how": "permute", "seed": 3},
    {"modules": ["o_proj"], "heads": [(0, 1), (2, 3)], "how": "noise"},
    {"layers": [1], "how": "remove"},
]


@pytest.mark.parametrize("architecture", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in toys.NAMES)])
def test_a_destruction_in_memory_is_the_destroyed_folder(architecture, tmp_path):
    folder = toys.written(architecture, tmp_path / "a")
    model = ck.load(folder, **own_code(architecture))
    before = state(model)
    for number, asked in enumerate(HOWS):
        out = tmp_path / str(number)
        try:
            destroy(folder, out=out, progress=False, **asked)
        except ValueError as error:
            # What cannot be written cannot be held either, for the same reason.
            with pytest.raises(type(error)), destroyed(model, **asked):
                pass
        else:
            with destroyed(model, **asked):
                assert not changed(model, state(ck.load(out, **own_code(architecture))))
                assert changed(model, before)
        assert not changed(model, before)


@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float32")])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_numbers_are_cast_to_as_dtype_with_one_rounding(dtypes, alpha, tmp_path):
    mine, theirs = (getattr(torch, each) for each in dtypes)
    into = toys.written("llama", tmp_path / "a", dtype=mine)
    donor = toys.written("llama", tmp_path / "b", dtype=theirs, seed=1)
    merge(into, donor, ["o_proj"], tmp_path / "m", alpha=alpha, progress=False)
    for b in (donor, ck.load(donor)):
        with grafted(ck.load(into), b, ["o_proj"], alpha=alpha) as model:
            assert model.hf.dtype == mine
            assert not changed(model, state(ck.load(tmp_path / "m")))


def test_task_arithmetic_of_several_donors_is_the_written_one(tmp_path):
    folders = [toys.written("llama", tmp_path / str(seed), seed=seed) for seed in range(4)]
    asked = {"donors": [(folders[1], 0.5), (folders[2], -0.25)], "base": folders[3]}
    merge(folders[0], modules=["mlp"], out=tmp_path / "m", progress=False, **asked)
    with grafted(ck.load(folders[0]), modules=["mlp"], **asked) as model:
        assert not changed(model, state(ck.load(tmp_path / "m")))


def test_b_may_be_a_name_a_folder_or_a_model_and_of_a_folder_only_what_is_chosen_is_read(model, twin, monkeypatch):
    read, rows = set(), Checkpoint.rows
    monkeypatch.setattr(Checkpoint, "rows", lambda self, name, at: read.add(name) or rows(self, name, at))
    found = []
    for b in (B, Path(twin.hf.config._name_or_path), twin):
        with grafted(model, b, ["o_proj"]) as graft:
            found.append(state(graft))
    assert all(toys.equal(found[0].items(), each.items()) for each in found)
    assert read == {f"model.layers.{layer}.self_attn.o_proj.weight" for layer in range(3)}


def test_a_bar_counts_the_bytes_that_are_written_and_is_closed_within(model, monkeypatch):
    bars = []

    def watched(*told):
        bars.append(bytes_bar(*told))
        return bars[-1]

    monkeypatch.setattr("circuitkit.sfn.live.contexts.bytes_bar", watched)
    for context in (grafted(model, B, ["o_proj"]), destroyed(model, ["o_proj"], progress=False)):
        with context:
            assert bars[-1].total == 3 * 64 * 64 * 4
            # Closed, as a bar is that counts no more.
            assert bars[-1].disable
    # One that is not wanted counts nothing.
    assert [bar.n for bar in bars] == [3 * 64 * 64 * 4, 0]


def test_a_hugging_face_model_is_wrapped(model, twin):
    with grafted(model.hf, twin, ["o_proj"]) as graft:
        assert isinstance(graft, ck.Model) and graft.hf is model.hf
        assert torch.equal(
            model.hf.model.layers[0].self_attn.o_proj.weight, twin.hf.model.layers[0].self_attn.o_proj.weight
        )


# What is kept, and what is undone


def held() -> int:
    """The bytes of all tensors that Python holds, each memory once."""
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if issubclass(type(each), Tensor) and not each.is_meta:
            storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("asked", [{"modules": ["o_proj"]}, {"modules": ["q_proj"], "heads": [(0, 1)]}])
@pytest.mark.parametrize("in_memory", [True, False])
def test_nothing_is_kept_but_what_is_replaced(model, twin, asked, in_memory):
    b = twin if in_memory else B
    with grafted(model, b, ["norm"]):
        pass
    before = held()
    with grafted(model, b, **asked):
        inside = held()
    size = 64 * 64 * 4 * 3 if "heads" not in asked else 16 * 64 * 4
    assert size <= inside - before <= size + 64
    assert held() == before


def test_an_error_within_undoes_it_and_is_the_error_without(model, twin):
    before = state(model)
    with pytest.raises(KeyError, match="mine"), grafted(model, twin, "all"):
        raise KeyError("mine")
    assert not changed(model, before)


def test_a_context_that_is_dropped_is_undone(model, twin):
    before = state(model)
    context = grafted(model, twin, "all")
    context.__enter__()
    assert changed(model, before)
    del context
    gc.collect()
    assert not changed(model, before)


def test_a_model_grafted_into_itself_is_as_it_was(model):
    before = state(model)
    for asked in ({"modules": "all"}, {"modules": ["mlp"], "alpha": 0.3}):
        with grafted(model, model, **asked):
            assert not changed(model, before)
    assert not changed(model, before)


def test_odd_numbers_come_back_bit_for_bit(model, twin):
    weight = model.hf.model.layers[0].self_attn.o_proj.weight
    odd = torch.tensor([0x7FC00001, -0x400000, -0x80000000, 1], dtype=torch.int32).view(torch.float32)
    with torch.no_grad():
        weight[0, :4] = odd
    before = state(model)
    with grafted(model, twin, ["o_proj"]):
        assert not torch.equal(bits(weight[0, :4]), bits(odd))
    assert not changed(model, before)
    assert torch.equal(bits(weight[0, :4]), bits(odd))


def test_tied_weights_stay_tied(model, twin):
    embedding, memory = model.hf.model.embed_tokens.weight, model.hf.model.embed_tokens.weight.data_ptr()
    with grafted(model, twin, ["embed", "lm_head"]):
        assert model.hf.lm_head.weight is model.hf.model.embed_tokens.weight is embedding
        assert torch.equal(model.hf.lm_head.weight, twin.hf.lm_head.weight)
    assert model.hf.lm_head.weight is embedding and embedding.data_ptr() == memory


HEAD = 16
PIECES = st.tuples(
    st.sampled_from(("o_proj", "q_proj")), st.sampled_from((None, 0, 1, 3)), st.sampled_from(("graft", "zero", "noise"))
)


@settings(max_examples=25, deadline=None)
@given(st.lists(PIECES, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_contexts_end_in_any_order(pieces, random):
    model, twin = NESTING
    weights = {role: getattr(model.hf.model.layers[1].self_attn, role).weight for role in ("o_proj", "q_proj")}
    original = {role: weight.detach().clone() for role, weight in weights.items()}
    open_now, layers = [], []
    for number, (role, head, how) in enumerate(pieces):
        chosen = {"layers": [1]} if head is None else {"heads": [(1, head)]}
        if how == "graft":
            context = grafted(model, twin, [role], alpha=0.5 + number, **chosen)
        else:
            context = destroyed(model, [role], how=how, **(chosen | ({} if how == "zero" else {"seed": number})))
        context.__enter__()
        covered = torch.zeros(64, 64, dtype=torch.bool)
        at = slice(None) if head is None else slice(head * HEAD, (head + 1) * HEAD)
        covered[(slice(None), at) if role == "o_proj" else at] = True
        open_now.append(context)
        layers.append((role, covered, weights[role].detach().clone()))
    while open_now:
        at = random.randrange(len(open_now))
        open_now.pop(at).__exit__(None, None, None)
        del layers[at]
        for role, weight in weights.items():
            expected = original[role].clone()
            for of, covered, value in layers:
                if of == role:
                    expected[covered] = value[covered]
            assert torch.equal(weight, expected)


NESTING = ck.load(A), ck.load(B)


def test_contexts_of_two_threads_are_both_undone(model, twin):
    before, inside, errors = state(model), threading.Barrier(2), []

    def graft(role: str) -> None:
        try:
            with grafted(model, twin, [role, "v_proj"]):
                inside.wait()
        except Exception as error:  # what a thread raises is seen nowhere else
            errors.append(error)

    threads = [threading.Thread(target=graft, args=(role,)) for role in ("q_proj", "o_proj")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and not changed(model, before)


def test_a_training_within_keeps_what_it_did_to_other_parts(model, twin):
    before = state(model)
    ids = model.tokens(TEXT).ids
    with grafted(model, twin, ["o_proj"]):
        optimizer = torch.optim.SGD(model.hf.parameters(), lr=0.1)
        model.hf(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    after = changed(model, before)
    assert after and not any("o_proj" in name for name in after)


def test_a_model_that_is_converted_within_is_told(model, twin):
    match = r"model\.norm\.weight of .* is another tensor than when the context began"
    with pytest.raises(LiveError, match=match), grafted(model, twin, ["norm"]):
        model.hf.model.norm.weight = torch.nn.Parameter(torch.ones(64))
    with pytest.raises(LiveError, match=match) as caught, grafted(model, twin, ["norm"]):
        model.hf.model.norm.weight = torch.nn.Parameter(torch.ones(64))
        raise KeyError("mine")
    assert isinstance(caught.value.__cause__, KeyError)
    with grafted(model, twin, ["o_proj"]):
        model.hf.bfloat16()
    plain = ck.load(A).hf.bfloat16().model.layers[0].self_attn.o_proj.weight
    assert torch.equal(model.hf.model.layers[0].self_attn.o_proj.weight, plain)


def test_weights_made_in_inference_mode_are_grafted_too(twin):
    with torch.inference_mode():
        model = ck.load(A)
    before = state(model)
    weight = model.hf.model.layers[2].self_attn.o_proj.weight
    with grafted(model, twin, ["o_proj"]):
        assert torch.equal(weight, twin.hf.model.layers[2].self_attn.o_proj.weight)
    assert not changed(model, before)


# What is computed


def test_generation_within_is_the_merged_models(model, twin, tmp_path):
    merge(A, B, ["o_proj", "mlp"], tmp_path / "m", progress=False)
    plain, merged = ({"max_new_tokens": 12, "do_sample": False, "use_cache": use} for use in (True, False))
    own = model.generate(TEXT, **plain)
    with grafted(model, twin, ["o_proj", "mlp"]):
        for how in (plain, merged):
            assert torch.equal(model.generate(TEXT, **how), ck.load(tmp_path / "m").generate(TEXT, **how))
    assert torch.equal(model.generate(TEXT, **plain), own)


def test_clean_runs_and_sweeps_are_of_the_model_as_it_is(twin, tmp_path):
    merge(A, B, ["o_proj"], tmp_path / "m", progress=False)
    model, merged = ck.load(A, clean_runs=tmp_path / "runs"), ck.load(tmp_path / "m")
    own, own_print = model.run(TEXT, capture=["z"]), fingerprint(model)
    assert model.clean_runs.misses == 1
    with grafted(model, twin, ["o_proj"]):
        inside, told = model.run(TEXT, capture=["z"]), merged.run(TEXT, capture=["z"])
        assert torch.equal(inside.logits, told.logits) and not torch.equal(inside.logits, own.logits)
        assert (model.clean_runs.hits, model.clean_runs.misses) == (0, 2)
        assert fingerprint(model) != own_print
        metric = lambda logits, targets: logits.logsumexp(-1)  # noqa: E731  # a metric in a line
        sweeps = [ck.ablation.sweep(each, [TEXT], metric=metric) for each in (model, merged)]
        assert torch.equal(sweeps[0].values, sweeps[1].values)
    again = model.run(TEXT, capture=["z"])
    assert torch.equal(again.logits, own.logits) and model.clean_runs.hits == 1
    assert fingerprint(model) == own_print


def test_sites_that_are_first_asked_for_within_are_those_of_the_whole_model():
    whole, model = toys.model("gpt2"), toys.model("gpt2")
    ids = toys.ids()
    with destroyed(model, "all", how="zero"):
        inside = model.run(ids, capture=["q", "k", "v", "z"])
    assert all(float(inside.cache[site].abs().max()) == 0 for site in inside.cache)
    sites = ["q", "k", "v", "z", "pattern"]
    runs = [each.run(ids, capture=sites).cache for each in (whole, model)]
    assert all(torch.equal(runs[0][site], runs[1][site]) for site in runs[0])


def adapted(model: ck.Model, **more):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=["q_proj", "o_proj"], init_lora_weights=False, task_type="CAUSAL_LM", **more
    )
    return get_peft_model(model.hf, config)


def test_beneath_an_adapter_the_base_is_grafted_and_destroyed(model, twin, tmp_path):
    merge(A, B, ["o_proj", "v_proj"], tmp_path / "m", progress=False)
    peft, merged = ck.Model(adapted(model), model.tokenizer), ck.load(tmp_path / "m")
    of_merged = ck.Model(adapted(merged), model.tokenizer)
    before = state(peft)
    with grafted(peft, twin, ["o_proj", "v_proj"]):
        assert not changed(peft, state(of_merged))
        assert torch.equal(peft.run(TEXT).logits, of_merged.run(TEXT).logits)
    assert not changed(peft, before)
    with destroyed(peft.hf, ["o_proj", "down_proj"], layers=[1]):
        assert changed(peft, before) == {
            name for name in before if re.search(r"layers\.1\..*(o_proj\.base|down)", name)
        }
    assert not changed(peft, before)


def test_a_layer_is_removed_beneath_an_adapter_only_where_the_adapter_adds_nothing_to_it(model):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    peft = ck.Model(get_peft_model(model.hf, config), model.tokenizer)
    with destroyed(peft, layers=[1], how="remove") as removed:
        ends = removed.run(TEXT, capture=["resid_pre[layer=1]", "resid_post[layer=1]"]).cache.values()
        assert torch.equal(*ends)
    peft = adapted(ck.load(A))
    before = {name: tensor.clone() for name, tensor in peft.state_dict().items()}
    match = r"layers\.1\.self_attn\.o_proj\.weight of .* has an adapter around it.*merge it first"
    with pytest.raises(PassingError, match=match), destroyed(peft, layers=[1], how="remove"):
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in peft.state_dict().items())


def test_a_weight_that_an_adapter_stands_in_for_is_refused(model, twin):
    peft = adapted(model, modules_to_save=["lm_head"])
    peft.merge_adapter()
    match = r"merged into model\.layers\.0\.self_attn\.o_proj\.weight"
    with pytest.raises(LiveError, match=match), grafted(peft, twin, ["o_proj"]):
        pass
    peft.unmerge_adapter()
    other = ck.load(A)
    copies = adapted(other, modules_to_save=["norm"])
    with pytest.raises(LiveError, match=r"norm\.weight of .* is not what computes"), grafted(copies, twin, ["norm"]):
        pass


# Where models are

LLAMA = {"modules": ["o_proj", "mlp"], "layers": [0, 2]}


def test_what_waits_on_disk_is_grafted_while_the_context_lasts(tmp_path):
    into = toys.written("llama", tmp_path / "a", tied=False)
    donor = toys.written("llama", tmp_path / "b", tied=False, seed=1)
    merge(into, donor, out=tmp_path / "m", progress=False, **LLAMA)
    layers = {f"model.layers.{at}": "cpu" if at == 0 else "disk" for at in range(3)}
    places = {"model.embed_tokens": "disk", **layers, "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}
    spread = ck.load(into, device_map=places, offload_folder=tmp_path / "disk")
    assert spread.hf.model.layers[2].self_attn.o_proj.weight.is_meta
    ids, kept = toys.ids(), waiting(spread)
    own, merged = spread.run(ids).logits, ck.load(tmp_path / "m").run(ids).logits
    with ExitStack() as stack:
        stack.enter_context(grafted(spread, donor, **LLAMA))
        assert torch.equal(spread.run(ids).logits, merged)
        assert waiting(spread) > kept
        with destroyed(spread, ["o_proj"], how="zero"):
            assert not torch.equal(spread.run(ids).logits, merged)
        assert torch.equal(spread.run(ids).logits, merged)
    assert torch.equal(spread.run(ids).logits, own) and waiting(spread) == kept


def waiting(model: ck.Model) -> int:
    """How many of the tensors that accelerate brings from elsewhere are in memory."""
    hooks = [module._hf_hook for module in model.hf.modules() if hasattr(module, "_hf_hook")]
    maps = [each.weights_map.dataset for each in hooks if getattr(each, "weights_map", None) is not None]
    return sum(len(each.state_dict) for each in {id(each): each for each in maps}.values())


def test_tied_weights_that_wait_on_disk_are_refused(tmp_path):
    folder = toys.written("gpt2", tmp_path / "a")
    blocks = {f"transformer.h.{at}": "cpu" for at in range(3)}
    places = {
        "transformer.wte": "disk",
        "transformer.wpe": "cpu",
        **blocks,
        "transformer.ln_f": "cpu",
        "lm_head": "disk",
    }
    spread = ck.load(folder, device_map=places, offload_folder=tmp_path / "disk")
    with pytest.raises(LiveError, match="is tied and offloaded"), destroyed(spread, ["embed", "lm_head"]):
        pass


def test_what_accelerate_keeps_in_memory_is_written_there(model, twin):
    from accelerate import cpu_offload

    own = model.run(TEXT).logits
    with grafted(model, twin, ["o_proj"]):
        graft = model.run(TEXT).logits
    cpu_offload(model.hf, execution_device=torch.device("cpu"))
    assert model.hf.model.layers[0].self_attn.o_proj.weight.is_meta
    with grafted(model, twin, ["o_proj"]):
        assert torch.equal(model.run(TEXT).logits, graft)
    assert torch.equal(model.run(TEXT).logits, own)


# What is refused


def test_a_number_that_as_dtype_does_not_hold_is_refused_and_nothing_is_left(tmp_path):
    into = toys.written("llama", tmp_path / "a", dtype=torch.float16)
    donor = toys.model("llama", seed=1)
    with torch.no_grad():
        donor.hf.model.layers[2].self_attn.o_proj.weight[0, 0] = 1e6
    model = ck.load(into)
    before = state(model)
    match = r"layers\.2\.self_attn\.o_proj\.weight .* float16, which holds no 1e\+06"
    with pytest.raises(MergeError, match=match), grafted(model, donor, ["o_proj"]):
        pass
    assert not changed(model, before)


def test_nan_is_refused_by_name_where_it_is_chosen_alone(model, twin):
    with torch.no_grad():
        twin.hf.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    with grafted(model, twin, ["o_proj"]):
        pass
    with (
        pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight .* \[3, 4\]"),
        grafted(model, twin, "mlp"),
    ):
        pass


def test_what_is_not_there_is_refused_by_name(model, tmp_path):
    refused = [
        ({"modules": ["z_proj"]}, SelectionError, "z_proj"),
        ({"modules": ["o_proj"], "layers": [9]}, SelectionError, "layer 9"),
        ({"modules": ["o_proj"], "heads": [(0, 9)]}, SelectionError, "head 9"),
        ({"modules": ["embed"]}, SelectionError, "lm_head"),
    ]
    for asked, kind, match in refused:
        with pytest.raises(kind, match=match), grafted(model, B, **asked):
            pass
    with pytest.raises(PairError, match="deductor-5k-base"), grafted(model, "deductor-5k-base", ["o_proj"]):
        pass
    with pytest.raises(CheckpointError, match="no model folder"), grafted(model, tmp_path / "not", ["o_proj"]):
        pass


def test_one_tensor_cannot_be_an_embedding_and_another_unembedding(tmp_path):
    model, untied = toys.model("llama", tied=True), toys.model("llama", tied=False, seed=1)
    with pytest.raises(LiveError, match="is embedding and unembedding in one"), grafted(model, untied, "all"):
        pass
    with torch.no_grad():
        untied.hf.lm_head.weight.copy_(untied.hf.model.embed_tokens.weight)
    with grafted(model, untied, "all"):
        assert torch.equal(model.hf.lm_head.weight, untied.hf.lm_head.weight)


def test_quantised_and_divided_weights_are_refused(model, twin):
    projection = model.hf.model.layers[0].self_attn.o_proj
    plain = projection.weight
    projection.weight = torch.nn.Parameter(plain.detach().to(torch.int8), requires_grad=False)
    match = r"layers\.0\.self_attn\.o_proj\.weight of .* is quantised \(Parameter of int8\)"
    with pytest.raises(LiveError, match=match), grafted(model, twin, ["o_proj"]):
        pass
    projection.weight = plain
    model.__dict__["group"] = object()
    with pytest.raises(LiveError, match="divided among processes"), grafted(model, twin, ["o_proj"]):
        pass
