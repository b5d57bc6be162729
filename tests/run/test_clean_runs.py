"""Clean runs kept on disk: never another run's, never a model's of before, never more bytes than were allowed."""

import multiprocessing
import os
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import architectures
import circuitkit as ck
from circuitkit.model.fingerprint import _weights as weights_hashed
from circuitkit.model.fingerprint import content_digest, fingerprint
from circuitkit.run import CleanRuns, CleanRunsError, InterventionError

IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])


def build(folder: Path | None, name: str = "llama", seed: int = 0, **settings: Any) -> ck.Model:
    runs = None if folder is None else CleanRuns(folder, **settings)
    return ck.Model(*architectures.build(name, seed), clean_runs=runs)


def counts(model: ck.Model) -> tuple[int, int]:
    assert model.clean_runs is not None
    return model.clean_runs.hits, model.clean_runs.misses


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def assert_same_run(found: ck.Run, expected: ck.Run) -> None:
    assert torch.equal(found.logits, expected.logits) and found.logits.dtype == expected.logits.dtype
    assert list(found.cache) == list(expected.cache) and found.cache.metadata == expected.cache.metadata
    assert all(torch.equal(found.cache[site], expected.cache[site]) for site in expected.cache)
    assert torch.equal(found.cache.positions, expected.cache.positions)
    assert torch.equal(found.cache.prompt_lengths, expected.cache.prompt_lengths)
    assert found.cache.n_layers == expected.cache.n_layers


# What is read is what was run


@pytest.mark.parametrize("name", architectures.NAMES)
def test_a_run_is_read_again_bit_for_bit_by_another_model_of_the_same_content(name, tmp_path):
    prompts = architectures.prompts("left_padded")
    asked = {"capture": ["resid_post", "z", "pattern[layer=1, head=1]"], "attention_mask": prompts.attention_mask}
    plain = build(None, name).run(prompts.input_ids, **asked)
    first, second = build(tmp_path, name), build(tmp_path, name)
    assert_same_run(first.run(prompts.input_ids, **asked), plain)
    assert_same_run(second.run(prompts.input_ids, **asked), plain)
    assert counts(first) == (0, 1) and counts(second) == (1, 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_numbers_of_every_width_come_back(dtype, tmp_path):
    model = ck.load("planted-induction-llama", dtype=dtype, clean_runs=tmp_path)
    first, second = (model.run(IDS, capture=["resid_mid"], logits_at=-1) for _ in range(2))
    assert_same_run(second, first)
    assert counts(model) == (1, 1)


def test_a_study_reads_its_source_run_and_gives_the_same_values(tmp_path):
    pairs = ck.Pairs(IDS, IDS.flip(0), answer=IDS[:, 3], distractor=IDS[:, 2])

    def swept(model: ck.Model) -> torch.Tensor:
        return ck.patching.sweep(model, pairs, over="z", metric=ck.metrics.logit_difference).values

    expected = swept(build(None))
    first, second = build(tmp_path), build(tmp_path)
    assert torch.equal(swept(first), expected) and torch.equal(swept(second), expected)
    assert counts(first)[1] >= 1 and counts(second) == (counts(first)[1] + counts(first)[0], 0)


def test_what_is_read_belongs_to_the_reader(tmp_path):
    model = build(tmp_path)
    first = model.run(IDS, capture=["resid_pre"])
    again = model.run(IDS, capture=["resid_pre"])
    again.cache["resid_pre[layer=0]"].zero_()
    again.logits.zero_()
    assert_same_run(model.run(IDS, capture=["resid_pre"]), first)


def test_nothing_is_kept_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = ck.load("planted-induction-llama")
    model.run(IDS, capture=["z"])
    assert model.clean_runs is None and not list(tmp_path.iterdir())


# Another question is another entry

QUESTIONS: list[dict[str, Any]] = [
    {"prompts": IDS},
    {"prompts": IDS[:1]},
    {"prompts": IDS.flip(0)},
    {"prompts": IDS, "capture": ["z"]},
    {"prompts": IDS, "capture": ["z[layer=1]"]},
    {"prompts": IDS, "capture": ["z[layer=1, head=0]"]},
    {"prompts": IDS, "capture": ["z[layer=1, position=-1]"]},
    {"prompts": IDS, "logits_at": -1},
    {"prompts": IDS, "logits_at": 4},
    {"prompts": IDS, "attention_mask": torch.tensor([[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])},
]


@settings(max_examples=15, deadline=None)
@given(order=st.lists(st.integers(0, len(QUESTIONS) - 1), min_size=2, max_size=12))
def test_whatever_is_asked_in_whatever_order_the_answer_is_its_own(order, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    model, plain = build(folder), build(None)
    for number in order:
        assert_same_run(model.run(**QUESTIONS[number]), plain.run(**QUESTIONS[number]))
    assert counts(model) == (len(order) - len(set(order)), len(set(order))) and len(entries(folder)) == len(set(order))


def _attention(model: ck.Model) -> Any:
    return model.hf.model.layers[1].self_attn


def _swap_two_heads(model: ck.Model) -> None:
    weight = _attention(model).o_proj.weight.data
    weight[:, :16] = torch.cat([weight[:, 8:16], weight[:, :8]], 1)


def _swap_two_neurons(model: ck.Model) -> None:
    weight = model.hf.model.layers[0].mlp.down_proj.weight.data
    weight[:, :2] = weight[:, :2].flip(1).clone()


CHANGES: dict[str, Callable[[ck.Model], Any]] = {
    "a weight written in place": lambda m: _attention(m).o_proj.weight.add_(0.5),
    "one number of a weight, past PyTorch's counter": lambda m: _attention(m).o_proj.weight.data[3, 4].add_(0.5),
    "two heads that change places": _swap_two_heads,
    "two neurons that change places": _swap_two_neurons,
    "a norm's epsilon": lambda m: setattr(m.hf.model.norm, "variance_epsilon", 0.3),
    "the attention's scale": lambda m: setattr(_attention(m), "scaling", 0.1),
    "a buffer": lambda m: m.hf.model.rotary_emb.inv_freq.mul_(0.5),
    "another weight in its place": lambda m: setattr(_attention(m), "o_proj", nn.Linear(32, 32, bias=False)),
    "attention": lambda m: m.hf.set_attn_implementation("eager"),
    "precision": lambda m: m.hf.double(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_model_never_reads_what_it_was(what, tmp_path):
    with torch.no_grad():
        model = build(tmp_path)
        before = fingerprint(model)
        model.run(IDS, capture=["resid_post"])
        CHANGES[what](model)
        found = model.run(IDS, capture=["resid_post"])
        assert fingerprint(model) != before and counts(model) == (0, 2)
        model.clean_runs = None
        assert_same_run(found, model.run(IDS, capture=["resid_post"]))


class Settings:
    """What a model of one's own might keep."""

    def __init__(self) -> None:
        self.strength, self.tables = 1.0, [torch.ones(3)]


def test_what_a_module_keeps_in_objects_and_lists_counts_too():
    model = build(None)
    model.hf.model.kept = Settings()
    seen = [fingerprint(model)]
    model.hf.model.kept.strength = 2.0
    seen.append(fingerprint(model))
    model.hf.model.kept.tables[0][1] = 5.0
    seen.append(fingerprint(model))
    assert len(set(seen)) == 3 and fingerprint(model) == seen[-1]


class Wrapped(nn.Module):
    """An MLP whose output goes through something kept beside it."""

    def __init__(self, mlp: nn.Module, kept: Any) -> None:
        super().__init__()
        self.mlp, self.kept = mlp, kept

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.kept[0] if isinstance(self.kept, list) else self.kept
        return kept(self.mlp(x)) if callable(kept) else self.mlp(x) * torch.as_tensor(kept)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), factor), requires_grad=False)
        self.times = lambda x: x * factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.times(x)


class Gain:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def times(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def _made_in_a_function(factor: float) -> Any:
    class Local:
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x * factor

    return Local()


def _without_a_file(factor: float) -> Any:
    """A class as a notebook has it, whose method reads a global."""
    names: dict[str, Any] = {"__name__": "a_notebook", "factor": factor}
    exec("class Cell:\n    def __call__(self, x): return x * factor", names)
    return names["Cell"]()


def _with_a_descriptor(factor: float) -> Any:
    class Told:
        def __get__(self, owner: Any, kind: Any = None) -> float:
            return factor

    return type("Made", (), {"factor": Told(), "__call__": lambda self, x: x * self.factor})()


def _deep(factor: float) -> Any:
    return [partial(partial(partial(partial(torch.mul), other=factor)))]


KEPT: dict[str, Callable[[float], Any]] = {
    "a closure": lambda factor: lambda x: x * factor,
    "a default": lambda factor: lambda x, by=factor: x * by,
    "a partial": lambda factor: partial(torch.mul, other=factor),
    "partials of partials": _deep,
    "a method": lambda factor: Gain(factor).times,
    "an array": lambda factor: np.full(1, factor, dtype=np.float32),
    "a number of numpy's": np.float32,
    "an object with slots": Slotted,
    "a class made in a function": _made_in_a_function,
    "a class with a descriptor": _with_a_descriptor,
    "a class that is in no file": _without_a_file,
    "a module in a list": lambda factor: [Times(factor)],
    "a method of a module that is not the model's": lambda factor: Times(factor).forward,
    "a module with a closure": Times,
}


@pytest.mark.parametrize("what", KEPT)
def test_models_that_keep_other_things_never_read_each_others_runs(what, tmp_path):
    found = []
    for factor in (2.0, 5.0):
        model, alone = build(tmp_path), build(None)
        for each in (model, alone):
            each.hf.model.layers[0].mlp = Wrapped(each.hf.model.layers[0].mlp, KEPT[what](factor))
        found.append(model.run(IDS).logits)
        assert torch.equal(found[-1], alone.run(IDS).logits) and counts(model)[0] == 0
    assert not torch.allclose(*found)


@pytest.mark.parametrize(
    "what", ["a closure", "a default", "a partial", "a method", "an array", "an object with slots"]
)
def test_models_that_keep_equal_things_read_each_others_runs(what, tmp_path):
    for hits in (0, 1):
        model = build(tmp_path)
        model.hf.model.layers[0].mlp = Wrapped(model.hf.model.layers[0].mlp, KEPT[what](2.0))
        model.run(IDS)
        assert counts(model) == (hits, 1 - hits)


@pytest.mark.parametrize(
    ("kept", "told"),
    [([Times(2.0)], "a Times that is not among its modules"), ([torch.Generator()], "a torch._C.Generator"),
     (threading.Lock(), "a _thread.lock")],
)  # fmt: skip
def test_what_cannot_be_told_by_its_content_is_neither_read_nor_kept(kept, told, tmp_path):
    model = build(tmp_path)
    model.hf.model.kept = kept
    model.run(IDS)
    reason = f"model keeps kept, which cannot be told by its content ({told})"
    assert counts(model) == (0, 0) and model.clean_runs.passed_over == {reason: 1}


@pytest.mark.parametrize("parametrized", [2.0, 3.0])
def test_a_parametrization_that_holds_a_closure_is_another_model_for_another_closure(parametrized, tmp_path):
    plain, model, other = (build(tmp_path) for _ in range(3))
    for each, factor in ((model, parametrized), (other, 5.0)):
        nn.utils.parametrize.register_parametrization(each.hf.lm_head, "weight", Times(factor))
        each.hf.lm_head.parametrizations.weight[0].weight.fill_(1.0)
    logits = [each.run(IDS).logits for each in (plain, model, other)]
    assert all(counts(each)[0] == 0 for each in (plain, model, other))
    for found, factor in zip(logits[1:], (parametrized, 5.0), strict=True):
        torch.testing.assert_close(found, factor * logits[0], rtol=1e-4, atol=1e-4)


def test_a_model_spread_by_accelerate_is_read_again(tmp_path):
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    for hits in (0, 1):
        model = build(tmp_path)
        for layer in model.hf.model.layers:
            add_hook_to_module(layer, AlignDevicesHook(io_same_device=True))
        model.run(IDS)
        assert counts(model)[0] == hits


def test_a_weight_put_back_reads_what_it_was(tmp_path):
    model = build(tmp_path)
    weight = _attention(model).o_proj.weight.data
    before = weight.clone()
    first = model.run(IDS)
    weight.zero_()
    model.run(IDS)
    weight.copy_(before)
    assert_same_run(model.run(IDS), first)
    assert counts(model) == (1, 2)


def test_training_makes_another_model(tmp_path):
    model = build(tmp_path)
    model.hf.requires_grad_(True)
    optimiser = torch.optim.SGD(model.hf.parameters(), lr=0.1)
    seen = set()
    for _ in range(3):
        seen.add(model.run(IDS).logits.sum().item())
        model.hf(input_ids=IDS, labels=IDS).loss.backward()
        optimiser.step()
    assert len(seen) == 3 and counts(model) == (0, 3)


@pytest.mark.parametrize("switch", [torch.use_deterministic_algorithms, torch.backends.mkldnn.set_flags])
def test_switches_that_move_rounding_are_part_of_the_question(switch, tmp_path):
    model = build(tmp_path)
    before = fingerprint(model)
    was = torch.backends.mkldnn.enabled
    switch(not was if switch is torch.backends.mkldnn.set_flags else True)
    try:
        assert fingerprint(model) != before
    finally:
        switch(was if switch is torch.backends.mkldnn.set_flags else False)
    assert fingerprint(model) == before


class Holder:
    """As much of a model as its weights' hash looks at."""

    def __init__(self, held: torch.Tensor) -> None:
        self.anatomy = self
        self.root = nn.Module()
        self.root.register_buffer("held", held)

    @property
    def hashed(self) -> Any:
        return weights_hashed(self)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 20_000),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int8, torch.float64]),
    data=st.data(),
)
def test_any_byte_that_changes_is_seen_past_pytorchs_counter(n, dtype, data):
    holder = Holder((torch.arange(n) % 97).to(dtype))
    before = holder.hashed
    at = data.draw(st.integers(0, n * holder.root.held.element_size() - 1))
    holder.root.held.data.view(torch.uint8)[at] += data.draw(st.integers(1, 255))
    assert holder.hashed != before


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, 3 * 4096 + 9), min_size=2, max_size=2, unique=True))
def test_any_values_that_change_places_are_seen_past_pytorchs_counter(places):
    holder = Holder(torch.arange(3 * 4096 + 10, dtype=torch.float64))
    before = holder.hashed
    holder.root.held.data[places] = holder.root.held.data[places[::-1]]
    assert holder.hashed != before


WIDE = 3 * 4096 + 9


def _seen(holder: Holder, change: Callable[[torch.Tensor], Any]) -> bool:
    before = holder.hashed
    change(holder.root.held.data)
    return bool(holder.hashed != before)


DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.int8]


def _ones_at(places: Sequence[int]) -> Callable[[torch.Tensor], Any]:
    return lambda held: held.zero_().index_fill_(0, torch.tensor(sorted(places)), 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ones_that_move_are_seen_wherever_they_move(dtype):
    apart = 8 // torch.empty(0, dtype=dtype).element_size()
    for n, stride in ((18, 1), (12, 4095), (12, 4096), (12, 4097)):
        holder = Holder(torch.zeros(n * stride * apart, dtype=dtype))
        pairs = [(a, b) for a in range(n) for b in range(a)]
        random.Random(0).shuffle(pairs)
        # Of equal sums of places in every order: {1, 7} and {3, 5} and {2, 6} come one after another.
        for places in [*pairs, *sorted(pairs, key=sum)]:
            assert _seen(holder, _ones_at([place * stride * apart for place in places])), places


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    value=st.sampled_from([1, 2, -1, 0.5, 8]),
    moved=st.lists(st.tuples(st.integers(0, WIDE - 1), st.integers(0, WIDE - 1)), min_size=1, max_size=6),
)
def test_planted_values_that_move_are_seen(dtype, value, moved):
    before, after = ({pair[side] for pair in moved} for side in (0, 1))
    assume(before != after and torch.tensor(value).to(dtype) != 0)
    holder = Holder(torch.zeros(WIDE, dtype=dtype).index_fill_(0, torch.tensor(sorted(before)), value))
    assert _seen(holder, lambda held: held.zero_().index_fill_(0, torch.tensor(sorted(after)), value))


@settings(max_examples=40, deadline=None)
@given(dtype=st.sampled_from(DTYPES), n=st.sampled_from([8, 64, 96]), seed=st.integers(0, 99), data=st.data())
def test_a_permutation_matrix_that_becomes_another_is_seen(dtype, n, seed, data):
    # Its rows and its columns have the sums that they had.
    eye = torch.eye(n, dtype=dtype)
    first = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    a, b = data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True))
    second = first.clone()
    second[[a, b]] = first[[b, a]]
    holder = Holder(eye[first])
    assert _seen(holder, lambda held: held.copy_(eye[second]))
    assert _seen(holder, lambda held: held.copy_(held.T.contiguous())) or torch.equal(eye[second], eye[second].T)


@settings(max_examples=40, deadline=None)
@given(
    width=st.sampled_from([1, 8, 512, 4096, 8192]),
    blocks=st.lists(st.integers(0, 5), min_size=2, max_size=2, unique=True),
    dtype=st.sampled_from(DTYPES),
)
def test_blocks_that_change_places_or_sign_are_seen(width, blocks, dtype):
    holder = Holder(torch.randint(-3, 4, (6, width), generator=torch.Generator().manual_seed(0)).to(dtype))
    held = holder.root.held.data
    assume(not torch.equal(held[blocks[0]], held[blocks[1]]))
    assert _seen(holder, lambda held: held.copy_(held.clone()[_swapped(blocks)]))
    assert _seen(holder, lambda held: held[blocks[0]].neg_()) or not held[blocks[0]].any()


def _swapped(blocks: Sequence[int]) -> list[int]:
    places = list(range(6))
    places[blocks[0]], places[blocks[1]] = blocks[1], blocks[0]
    return places


def test_digests_tell_names_types_shapes_and_bytes_apart():
    tensors = [{"a": torch.zeros(4)}, {"b": torch.zeros(4)}, {"a": torch.zeros(2, 2)}, {"a": torch.zeros(4).int()}]
    tensors += [{"a": torch.ones(4)}, {"a": torch.zeros(0)}, {"a": torch.zeros(4), "b": torch.zeros(4)}, {}]
    assert len({content_digest(each) for each in tensors}) == len(tensors)


# While something is held on the model


def _with_hook(model: ck.Model) -> Any:
    return model.hf.model.layers[1].register_forward_hook(lambda module, args, output: output * 2)


def _with_forward(model: ck.Model) -> None:
    mlp = model.hf.model.layers[1].mlp
    mlp.forward = lambda x: 0 * x


@pytest.mark.parametrize(
    ("hold", "reason"),
    [(_with_hook, "model.layers.1 has a hook"), (_with_forward, "model.layers.1.mlp has a forward of its own")],
)
def test_hooks_and_replaced_forwards_are_neither_read_nor_kept(hold, reason, tmp_path):
    model = build(tmp_path)
    clean = model.run(IDS).logits
    hold(model)
    for _ in range(2):
        assert not torch.allclose(model.run(IDS).logits, clean)
    assert counts(model) == (0, 1) and model.clean_runs.passed_over == {reason: 2}


def test_a_replaced_class_forward_is_neither_read_nor_kept(tmp_path, monkeypatch):
    model = build(tmp_path)
    model.run(IDS)
    monkeypatch.setattr(type(model.hf.model.layers[0].mlp), "forward", lambda self, x: 0 * x)
    model.run(IDS)
    assert counts(model) == (0, 1) and "forward was replaced" in next(iter(model.clean_runs.passed_over))


def test_open_contexts_adapters_autocast_and_interventions_are_neither_read_nor_kept(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = build(tmp_path)
    model.run(IDS)
    with model.intervene([ck.zero("z[layer=1]")]):
        inside = model.run(IDS).logits
    assert torch.equal(inside, model.run(IDS, [ck.zero("z[layer=1]")]).logits)
    with torch.autocast("cpu", torch.bfloat16):
        model.run(IDS)
    assert counts(model) == (0, 1)
    assert set(model.clean_runs.passed_over) == {"a context is open on it", "autocast is on"}
    hf, words = architectures.build("llama")
    adapted = ck.Model(get_peft_model(hf, LoraConfig(target_modules=["q_proj"], r=2)), words, clean_runs=tmp_path)
    adapted.run(IDS)
    assert counts(adapted) == (0, 0) and "it has an adapter" in adapted.clean_runs.passed_over


def test_runs_with_gradients_are_not_read(tmp_path):
    model = build(tmp_path)
    model.run(IDS, capture=["resid_pre"])
    run = model.run(IDS, capture=["resid_pre"], gradients=True)
    assert run.logits.requires_grad and counts(model) == (0, 1)


def test_dropout_and_absent_positions_are_refused_as_ever(tmp_path):
    model = build(tmp_path)
    with pytest.raises(ValueError, match="position 9 does not exist"):
        model.run(IDS, capture=["z[layer=1, position=9]"])
    gpt2 = build(tmp_path, "gpt2")
    gpt2.run(IDS)
    gpt2.hf.train()
    with pytest.raises(InterventionError, match="dropout"):
        gpt2.run(IDS)


# Damage


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _another_runs(path: Path) -> None:
    other = next(each for each in entries(path.parent) if each != path)
    path.write_bytes(other.read_bytes())


def _spoil_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"sites"', b'"sitez"'))


def _name_another_device(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"cpu", b"cpx"))


@pytest.mark.parametrize("damage", [_cut, _flip_a_bit, _empty, _another_runs, _spoil_the_header, _name_another_device])
def test_a_damaged_file_is_set_aside_and_run_anew(damage, tmp_path):
    model = build(tmp_path)
    expected = model.run(IDS, capture=["resid_pre"])
    path = entries(tmp_path)[0]
    model.run(IDS.flip(0), capture=["resid_pre"])
    damage(path)
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged .* set aside as {path.stem}\.damaged"):
        assert_same_run(model.run(IDS, capture=["resid_pre"]), expected)
    assert (tmp_path / f"{path.stem}.damaged").exists() and counts(model) == (0, 3)
    assert_same_run(model.run(IDS, capture=["resid_pre"]), expected)
    assert counts(model) == (1, 3)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    model = build(folder)
    expected = model.run(IDS[:, :3], capture=["embed"], logits_at=-1)
    path = entries(folder)[0]
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.run(IDS[:, :3], capture=["embed"], logits_at=-1)
    # A bit of what only tells where a run came from may change without harm.
    assert_same_run(found, expected)


# The budget


def test_what_was_unused_for_longest_makes_room(tmp_path):
    model = build(tmp_path)
    model.run(IDS, capture=["resid_pre"])
    one = model.clean_runs.size
    model.clean_runs.budget = 3 * one
    prompts = [IDS + shift for shift in range(1, 5)]
    names = {}
    for number, ids in enumerate(prompts[:2]):
        before = set(entries(tmp_path))
        model.run(ids, capture=["resid_pre"])
        (names[number],) = set(entries(tmp_path)) - before
    model.run(IDS, capture=["resid_pre"])
    model.run(prompts[2], capture=["resid_pre"])
    assert names[0] not in entries(tmp_path) and names[1] in entries(tmp_path)
    assert model.clean_runs.size == 3 * one == sum(path.stat().st_size for path in entries(tmp_path))
    hits = counts(model)[0]
    model.run(IDS, capture=["resid_pre"])
    assert counts(model)[0] == hits + 1


@settings(max_examples=15, deadline=None)
@given(
    budget=st.integers(1, 60_000),
    asked=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["embed", "z", "pattern", "resid_post"])), max_size=12),
)
def test_files_never_take_more_than_the_budget(budget, asked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    model, plain = build(folder, budget=budget), build(None)
    for shift, kind in asked:
        assert_same_run(model.run(IDS + shift, capture=[kind]), plain.run(IDS + shift, capture=[kind]))
        on_disk = sum(path.stat().st_size for path in folder.iterdir())
        assert model.clean_runs.size == on_disk <= budget


def test_a_run_larger_than_the_budget_is_not_kept_and_drives_nothing_out(tmp_path):
    model = build(tmp_path)
    model.run(IDS, logits_at=-1)
    model.clean_runs.budget = model.clean_runs.size
    run = model.run(IDS, capture=["resid_post", "pattern"])
    assert run.logits.shape[:2] == IDS.shape and len(entries(tmp_path)) == 1
    assert model.clean_runs.passed_over == {"it is larger than the budget": 1}


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "weights.safetensors").write_bytes(b"mine")
    model = build(tmp_path)
    model.run(IDS)
    model.clean_runs.budget = 1
    model.run(IDS + 1)
    model.clean_runs.clear()
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "weights.safetensors", ".lock"}


def test_what_a_killed_process_left_is_cleared_when_it_is_old(tmp_path):
    left = tmp_path / f".{'a' * 64}.safetensors.x1y2"
    fresh = tmp_path / f".{'b' * 64}.safetensors.x1y2"
    for folder in (left, fresh):
        folder.mkdir()
        (folder / "part").write_bytes(b"cut short")
    os.utime(left, (1, 1))
    build(tmp_path).run(IDS)
    assert not left.exists() and fresh.exists()


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_cache(tmp_path, monkeypatch):
    model = build(tmp_path)
    expected = build(None).run(IDS)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("circuitkit.run.cache.save_file", full)
    with pytest.warns(UserWarning, match="could not be kept .*No space left"):
        assert_same_run(model.run(IDS), expected)
    assert not entries(tmp_path) and model.clean_runs.passed_over == {"it could not be written": 1}


def test_a_place_or_a_budget_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CleanRunsError, match="cannot be a folder"):
        ck.load("planted-induction-llama", clean_runs=tmp_path / "file")
    with pytest.raises(CleanRunsError, match="above 0, not 0"):
        CleanRuns(tmp_path, budget=0)


# Several processes


def _hammer(folder: str, budget: int, seed: int, rounds: int, found: Any) -> None:
    torch.set_num_threads(1)
    draw, plain = random.Random(seed), build(None)
    expected = {shift: plain.run(IDS + shift, capture=["z"]) for shift in range(6)}
    wrong, over, model = 0, 0, build(Path(folder), budget=budget)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(rounds):
            shift = draw.randrange(6)
            run = model.run(IDS + shift, capture=["z"])
            wrong += not torch.equal(run.logits, expected[shift].logits)
            wrong += any(not torch.equal(run.cache[site], expected[shift].cache[site]) for site in run.cache)
            with model.clean_runs._locked():
                over += model.clean_runs.size > budget
    found.put((wrong, over, *counts(model), dict(model.clean_runs.passed_over)))


def _together(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = [context.Process(target=work, args=(*each, found)) for each in arguments]
    for worker in workers:
        worker.start()
    results = [found.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join()
    return results


def test_two_processes_on_one_small_folder_read_nothing_wrong_and_keep_to_the_budget(tmp_path):
    alone = build(tmp_path / "alone")
    alone.run(IDS, capture=["z"])
    budget = 3 * alone.clean_runs.size + 10
    shared = tmp_path / "shared"
    results = _together(_hammer, [(str(shared), budget, seed, 60) for seed in range(2)])
    assert [(wrong, over, passed) for wrong, over, _, _, passed in results] == [(0, 0, {})] * 2
    assert all(hits + misses == 60 for _, _, hits, misses, _ in results)
    assert sum(hits for _, _, hits, _, _ in results) > 0
    assert CleanRuns(shared).size <= budget and not [path for path in shared.iterdir() if path.is_dir()]


def test_threads_of_one_process_share_a_folder(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    expected = [build(None).run(IDS + shift, capture=["z"]) for shift in range(4)]
    runs = CleanRuns(tmp_path)

    def work(seed: int) -> bool:
        model = ck.Model(*architectures.build("llama"), clean_runs=runs)
        pairs = [(model.run(IDS + shift, capture=["z"]), expected[shift]) for shift in (seed, 3 - seed, 1, 2)]
        return all(torch.equal(found.logits, each.logits) for found, each in pairs)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(work, range(4)))
    assert len(entries(tmp_path)) == 4
