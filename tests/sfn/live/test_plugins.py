"""Plug-ins: a trained module set in a file of its own gives what grafting and merging give, on its own base alone."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import circuitkit as ck
from circuitkit.model import LoadError
from circuitkit.sfn.errors import CheckpointError, SelectionError
from circuitkit.sfn.live.contexts import grafted
from circuitkit.sfn.live.plugin_file import PluginError, told
from circuitkit.sfn.live.plugins import attached, save_plugin
from circuitkit.sfn.merges.merging import merge
from sfn import toys

A, B = "deductor-130k-base", "deductor-130k-reason"
O = "model.layers.{}.self_attn.o_proj.weight"  # noqa: E741  # the projection's letter
TEXT = "Every wumpus is loud. Max is a wumpus."


def state(model: ck.Model) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.hf.state_dict().items()}


def same(model: ck.Model, other: dict[str, Tensor]) -> bool:
    return toys.equal(model.hf.state_dict().items(), other.items())


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return save_plugin(B, tmp_path_factory.mktemp("plugin") / "o.safetensors", ["o_proj"], base=A, progress=False)


def spoiled(plugin, to, change=lambda tensors: tensors, **said):
    """The plug-in once more, with other tensors, or saying something else."""
    from safetensors import safe_open

    with safe_open(plugin, framework="pt") as file:
        metadata = dict(file.metadata())
    metadata["circuitkit.plugin"] = json.dumps(json.loads(metadata["circuitkit.plugin"]) | said)
    save_file(change(load_file(plugin)), to, metadata=metadata)
    return to


def test_a_plug_in_attached_or_loaded_is_the_graft_and_the_merge(plugin, tmp_path):
    merge(A, B, ["o_proj"], tmp_path / "m", progress=False)
    merged = state(ck.load(tmp_path / "m"))
    model = ck.load(A)
    before = state(model)
    with grafted(model, B, ["o_proj"]):
        assert same(model, merged)
    with attached(model, plugin) as on:
        assert on is model and same(model, merged)
        logits = model.run(TEXT).logits
    assert same(model, before)
    loaded = ck.load(A, plugin=plugin)
    assert same(loaded, merged) and torch.equal(loaded.run(TEXT).logits, logits)
    assert loaded.name == "deductor-130k-base with o.safetensors"


def test_the_file_is_small_and_says_what_it_replaces(plugin):
    assert plugin.stat().st_size < 3 * 64 * 64 * 4 + 8192
    said, tensors = told(plugin), load_file(plugin)
    assert said["base"]["name"] == A and said["trained"]["name"] == B
    assert (said["modules"], said["layers"], said["heads"], said["architecture"]) == (["o_proj"], None, None, "llama")
    base, trained = state(ck.load(A)), state(ck.load(B))
    for part in said["parts"]:
        name = part["parameter"]
        assert torch.equal(tensors[part["name"]], trained[name])
        assert part["sha256"] == hashlib.sha256(trained[name].numpy().tobytes()).hexdigest()
        assert part["replaces"]["float32"] == hashlib.sha256(base[name].numpy().tobytes()).hexdigest()


ASKED = [
    ("gpt2", {"modules": ["v_proj", "o_proj"], "heads": [(1, 2), (-1, 0)]}),
    ("phi3", {"modules": ["mlp", "norm", "k_proj"], "layers": [0, -1]}),
    ("mixtral", {"modules": ["mlp"], "layers": [1]}),
    ("qwen2", {"modules": ["attention", "embed", "lm_head"], "biases": True}),
    ("llama", {"modules": "all"}),
]


@pytest.mark.parametrize(("architecture", "asked"), ASKED)
def test_shares_of_fused_and_packed_tensors_are_saved_and_attached(architecture, asked, tmp_path):
    base = toys.written(architecture, tmp_path / "a", shards=2)
    trained = toys.model(architecture, seed=1)
    plugin = save_plugin(trained, tmp_path / "p.safetensors", base=base, progress=False, **asked)
    with grafted(ck.load(base), trained, **asked) as model:
        expected = state(model)
    assert same(ck.load(base, plugin=plugin), expected)
    # From models in memory, in which experts are packed, and back.
    again = save_plugin(trained, tmp_path / "q.safetensors", base=ck.load(base), progress=False, **asked)
    with attached(ck.load(base).hf, again) as model:
        assert same(model, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_a_base_that_is_loaded_in_another_dtype_is_the_same_base(plugin, dtype):
    wide = ck.load(B).hf.to(getattr(torch, dtype)).state_dict()
    loaded = ck.load(A, dtype=dtype, plugin=plugin).hf.state_dict()
    for name in wide:
        assert not name.endswith("o_proj.weight") or torch.equal(loaded[name], wide[name])


def test_what_a_training_made_is_saved_from_the_model_in_memory(tmp_path):
    model = ck.load(A)
    pairs = [("Every wumpus is loud.", "Max is loud.")]
    examples = [ck.training.Example(*pair) for pair in pairs * 2]
    settings = {"train": ["o_proj"], "max_steps": 2, "batch_size": 2, "learning_rate": 1e-2, "progress": False}
    ck.train(model, examples, out=tmp_path / "t", **settings)
    plugin = save_plugin(model, tmp_path / "p.safetensors", ["o_proj"], base=A, progress=False)
    assert same(ck.load(A, plugin=plugin), state(model))


def test_layers_and_heads_may_be_numpys_numbers(tmp_path):
    asked = [{"layers": np.arange(2)}, {"layers": np.int64(1)}, {"heads": np.argwhere(np.eye(3, 4))}]
    for number, each in enumerate(asked):
        save_plugin(B, tmp_path / f"{number}.safetensors", ["o_proj"], base=A, progress=False, **each)
    said = [told(tmp_path / f"{number}.safetensors") for number in range(3)]
    assert [each["layers"] for each in said] == [[0, 1], [1], None]
    assert said[2]["heads"] == [[0, 0], [1, 1], [2, 2]]


def test_a_plug_in_that_is_in_already_is_told_so(plugin):
    model = ck.load(A, plugin=plugin)
    before = state(model)
    match = (
        rf"deductor-130k-base with o\.safetensors: {O.format(0)} is not that of '{A}', but what .*: it is in already"
    )
    with pytest.raises(PluginError, match=match), attached(model, plugin):
        pass
    with attached(model, plugin, any_base=True):
        assert same(model, before)
    assert same(model, before)


def test_another_base_is_refused_by_the_first_tensor_that_differs(plugin):
    match = rf"made for another base than .*: {O.format(0)} is not that of '{A}'.*any_base=True"
    other = ck.load(B)
    before = state(other)
    with pytest.raises(PluginError, match=match), attached(other, plugin):
        pass
    assert same(other, before)
    with pytest.raises(PluginError, match=match):
        ck.load(B, plugin=plugin)
    model = ck.load(A)
    with torch.no_grad():
        model.hf.model.layers[2].self_attn.o_proj.weight[0, 0] += 1
    before = state(model)
    with pytest.raises(PluginError, match=O.format(2)), attached(model, plugin):
        pass
    assert same(model, before)
    with attached(model, plugin, any_base=True):
        assert torch.equal(model.hf.get_parameter(O.format(2)), other.hf.get_parameter(O.format(2)))
    assert same(ck.load(B, plugin=plugin, any_base=True), state(other))


def test_another_architecture_or_size_is_refused(plugin):
    match = "for the architecture llama, and gpt2 is a gpt2"
    with pytest.raises(PluginError, match=match), attached(toys.model("gpt2"), plugin):
        pass
    with pytest.raises(PluginError, match="does not fit deductor-5k-base"):
        ck.load("deductor-5k-base", plugin=plugin)
    match = r"does not fit llama: its .*o_proj\.weight is \[64, 64\], .* \[32, 32\]"
    with pytest.raises(PluginError, match=match), attached(toys.model("llama"), plugin):
        pass


def test_damage_is_refused_by_name(plugin, tmp_path):
    model, name = ck.load(A), O.format(1)
    before = state(model)
    flipped = lambda tensors: tensors | {name: tensors[name].index_put((torch.tensor(0),), torch.tensor(1.0))}  # noqa: E731
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(plugin.read_bytes()[:-100])
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    fewer = lambda tensors: {each: tensors[each] for each in tensors if each != name}  # noqa: E731
    more = lambda tensors: tensors | {"more": torch.zeros(1)}  # noqa: E731
    parts = told(plugin)["parts"]
    odd = [[parts[0] | change, *parts[1:]] for change in ({"dtype": "float3"}, {"shape": 4}, {"replaces": []})]
    less = [{each: part[each] for each in part if each != "sha256"} for part in parts]
    nan = load_file(plugin)[name].index_put((torch.tensor(0),), torch.tensor(float("nan")))
    told_of_nan = [
        part | {"sha256": hashlib.sha256(nan.numpy().tobytes()).hexdigest()} if part["name"] == name else part
        for part in parts
    ]
    spoilt = [
        *(
            (
                spoiled(plugin, tmp_path / f"{number}.safetensors", parts=each),
                "damaged: what it says of itself cannot be",
            )
            for number, each in enumerate([*odd, less])
        ),
        (
            spoiled(plugin, tmp_path / "base.safetensors", base="deductor-130k-base"),
            "damaged: what it says of itself cannot be",
        ),
        (
            spoiled(plugin, tmp_path / "nan.safetensors", lambda tensors: tensors | {name: nan}, parts=told_of_nan),
            rf"{name} of .*nan\.safetensors",
        ),
        (spoiled(plugin, tmp_path / "flip.safetensors", flipped), rf"damaged: {name} is not what was written"),
        (cut, "cut short or no safetensors file"),
        (other, "is a safetensors file, but no plug-in"),
        (spoiled(plugin, tmp_path / "fewer.safetensors", fewer), f"damaged: {name} is missing"),
        (spoiled(plugin, tmp_path / "more.safetensors", more), "damaged: more is in it and not described"),
        (spoiled(plugin, tmp_path / "new.safetensors", format=2), "is of format 2, and .* reads format 1"),
        (spoiled(plugin, tmp_path / "odd.safetensors", layers=[0]), rf"does not fit .* has no {name}"),
        (spoiled(plugin, tmp_path / "none.safetensors", parts=None), "damaged: what it says of itself cannot be read"),
        (tmp_path / "not.safetensors", "there is no such plug-in"),
    ]
    for file, match in spoilt:
        with pytest.raises(PluginError, match=match), attached(model, file):
            pass
        with pytest.raises(PluginError, match=match):
            ck.load(A, plugin=file)
        assert same(model, before)


def test_what_cannot_be_saved_is_refused_and_nothing_is_left(tmp_path, small_disk):
    refused = [
        ({"modules": ["z_proj"]}, SelectionError, "z_proj"),
        ({"modules": ["o_proj"], "trained": A}, PluginError, "the same in o_proj: there is nothing to save"),
        ({"modules": ["o_proj"], "out": tmp_path / "p.bin"}, PluginError, r"one \.safetensors file"),
        ({"modules": ["o_proj"], "base": tmp_path / "not"}, CheckpointError, "no model folder"),
    ]
    for asked, kind, match in refused:
        with pytest.raises(kind, match=match):
            save_plugin(**{"trained": B, "base": A, "out": tmp_path / "p.safetensors", "progress": False} | asked)
    assert not list(tmp_path.glob("*.safetensors"))
    wide = {"hidden_size": 512, "num_hidden_layers": 2}
    base, trained = (toys.model("llama", seed=seed, **wide) for seed in (0, 1))
    with pytest.raises(PluginError, match=r"could not be written \(No space left on device\); it needs .* bytes"):
        save_plugin(trained, small_disk / "p.safetensors", ["o_proj"], base=base, progress=False)
    assert not list(small_disk.iterdir())
    untied = toys.model("llama", tied=False, seed=1)
    with pytest.raises(PluginError, match="tied to the embedding in llama"):
        save_plugin(untied, tmp_path / "p.safetensors", "all", base=toys.model("llama", tied=True), progress=False)


def test_numbers_beyond_the_bases_dtype_are_refused(tmp_path):
    base, trained = toys.model("llama"), toys.model("llama", seed=1)
    with torch.no_grad():
        trained.hf.model.layers[0].self_attn.o_proj.weight[0, 0] = 1e6
    plugin = save_plugin(trained, tmp_path / "p.safetensors", ["o_proj"], base=base, progress=False)
    narrow = toys.model("llama", dtype=torch.float16)
    match = r"layers\.0\.self_attn\.o_proj\.weight .* goes beyond what float16 holds"
    with pytest.raises(PluginError, match=match), attached(narrow, plugin):
        pass


def test_plug_ins_lie_on_one_another(plugin, tmp_path):
    second = save_plugin(B, tmp_path / "v.safetensors", ["v_proj"], base=A, progress=False)
    model = ck.load(A)
    with grafted(model, B, ["o_proj", "v_proj"]):
        both = state(model)
    with attached(model, plugin), attached(model, second):
        assert same(model, both)
    assert same(model, state(ck.load(A)))


def test_loading_elsewhere_or_without_a_plug_in_is_refused(plugin):
    with pytest.raises(LoadError, match="leave engine, remote and tp_plan out"):
        ck.load(A, plugin=plugin, tp_plan="auto")
    with pytest.raises(LoadError, match="give plugin=… with it"):
        ck.load(A, any_base=True)
