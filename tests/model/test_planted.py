"""Planted circuits against brute force: plain hooks on the output projections, and nothing of the package's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from circuitkit.model import planted

NAMES = planted.names()
# Another seed is another model of the same circuit.
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
Head = tuple[int, int]


@dataclass(frozen=True)
class Oracle:
    """Runs a planted model with the inputs of its output projections read or replaced."""

    planted: planted.Planted

    @property
    def is_gpt2(self) -> bool:
        return hasattr(self.planted.model, "transformer")

    @property
    def blocks(self):
        return self.planted.model.transformer.h if self.is_gpt2 else self.planted.model.model.layers

    @property
    def n_heads(self) -> int:
        return self.planted.model.config.num_attention_heads

    @property
    def d_head(self) -> int:
        return getattr(self.planted.model.config, "head_dim", 256 // self.n_heads)

    @property
    def all_heads(self) -> list[Head]:
        return [(layer, head) for layer in range(len(self.blocks)) for head in range(self.n_heads)]

    @property
    def random_heads(self) -> list[Head]:
        planted_heads = {*self.planted.heads, self.planted.decoy, self.planted.backup}
        return [head for head in self.all_heads if head not in planted_heads]

    def columns(self, head: int) -> slice:
        return slice(head * self.d_head, (head + 1) * self.d_head)

    def projection(self, layer: int) -> torch.nn.Module:
        return self.blocks[layer].attn.c_proj if self.is_gpt2 else self.blocks[layer].self_attn.o_proj

    def write_matrix(self, layer: int, head: int) -> Tensor:
        weight = self.projection(layer).weight
        return weight[self.columns(head)] if self.is_gpt2 else weight[:, self.columns(head)].T

    @contextmanager
    def edited(self, edits: dict[Head, Tensor]) -> Iterator[None]:
        with ExitStack() as stack:
            for (layer, head), value in edits.items():

                def edit(module, args, head=head, value=value):
                    z = args[0].clone()
                    z[..., self.columns(head)] = value
                    return (z,)

                handle = self.projection(layer).register_forward_pre_hook(edit)
                stack.callback(handle.remove)
            yield

    def logit_difference(self, tokens: Tensor, pairs, edits: dict[Head, Tensor] | None = None) -> Tensor:
        with torch.no_grad(), self.edited(edits or {}):
            logits = self.planted.model(tokens, use_cache=False).logits[:, -1]
        return (logits.gather(1, pairs.answer[:, None]) - logits.gather(1, pairs.distractor[:, None])).squeeze(1)

    def z(self, tokens: Tensor) -> dict[Head, Tensor]:
        values: dict[Head, Tensor] = {}
        with ExitStack() as stack, torch.no_grad():
            for layer in range(len(self.blocks)):

                def read(module, args, layer=layer):
                    for head in range(self.n_heads):
                        values[layer, head] = args[0][..., self.columns(head)].clone()

                handle = self.projection(layer).register_forward_pre_hook(read)
                stack.callback(handle.remove)
            self.planted.model(tokens, use_cache=False)
        return values

    def patterns(self, tokens: Tensor) -> tuple[Tensor, ...]:
        model = self.planted.model
        implementation = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            with torch.no_grad():
                return model(tokens, use_cache=False, output_attentions=True).attentions
        finally:
            model.set_attn_implementation(implementation)

    def projected(self, role: str, part: str) -> tuple[torch.nn.Module, slice]:
        """The module that makes a head's query, key or value, and the columns of its output that are the head's."""
        layer, head = self.planted.circuit[role]
        if self.is_gpt2:
            start = 256 * "qkv".index(part) + head * self.d_head
            return self.blocks[layer].attn.c_attn, slice(start, start + self.d_head)
        shared = head if part == "q" else head // 2
        return getattr(self.blocks[layer].self_attn, f"{part}_proj"), self.columns(shared)

    def exact_and_first_order(self, role: str, part: str, pairs) -> tuple[float, float]:
        """The effect of a head's clean query, key or value in the corrupt run: patched, and by the gradient."""
        module, columns = self.projected(role, part)
        seen: list[Tensor] = []

        def run(tokens: Tensor, patch: Tensor | None = None) -> Tensor:
            def hook(module, args, output):
                output = output.detach().clone()
                if patch is not None:
                    output[..., columns] = patch
                seen.append(output.requires_grad_())
                return seen[-1]

            handle = module.register_forward_hook(hook)
            try:
                logits = self.planted.model(tokens, use_cache=False).logits[:, -1]
            finally:
                handle.remove()
            rows = torch.arange(len(tokens))
            return (logits[rows, pairs.answer] - logits[rows, pairs.distractor]).mean()

        run(pairs.clean)
        clean = seen[-1].detach()[..., columns]
        corrupt = run(pairs.corrupt)
        (gradient,) = torch.autograd.grad(corrupt, seen[-1])
        change = clean - seen[-1].detach()[..., columns]
        exact = run(pairs.corrupt, clean) - corrupt
        return exact.item(), (gradient[..., columns] * change).sum().item()


@cache
def oracle(name: str, seed: int = 0) -> Oracle:
    return Oracle(planted.build(name, seed))


def denoised(o: Oracle, pairs, heads: list[Head]) -> dict[Head, float]:
    """The share of the clean-corrupt gap that each head's clean z restores in the corrupt run."""
    clean_z = o.z(pairs.clean)
    clean = o.logit_difference(pairs.clean, pairs).mean()
    corrupt = o.logit_difference(pairs.corrupt, pairs).mean()
    return {
        head: (
            (o.logit_difference(pairs.corrupt, pairs, {head: clean_z[head]}).mean() - corrupt) / (clean - corrupt)
        ).item()
        for head in heads
    }


def ablated(o: Oracle, pairs, values: dict[Head, Tensor]) -> dict[Head, float]:
    """The share of the clean logit difference that each head's ablation costs."""
    clean = o.logit_difference(pairs.clean, pairs).mean()
    return {
        head: ((clean - o.logit_difference(pairs.clean, pairs, {head: value}).mean()) / clean).item()
        for head, value in values.items()
    }


def largest(effects: dict[Head, float], heads) -> float:
    return max(abs(effects[head]) for head in heads)


@pytest.mark.parametrize("name", NAMES)
def test_the_task_is_solved_at_every_length_and_seed(name):
    for seed in range(3):
        o = oracle(name, seed)
        for length, corruption in ((14, "subject"), (20, "query"), (62, "object")):
            pairs = o.planted.pairs(24, seed=seed, length=length, corruption=corruption)
            assert (o.logit_difference(pairs.clean, pairs) > 0).float().mean() >= 0.98
            assert (o.logit_difference(pairs.corrupt, pairs) < 0).float().mean() >= 0.98


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_the_most_likely_word(name):
    o = oracle(name)
    pairs = o.planted.pairs(40, seed=5)
    with torch.no_grad():
        predicted = o.planted.model(pairs.clean).logits[:, -1].argmax(-1)
    assert (predicted == pairs.answer).float().mean() >= 0.95


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("name", NAMES)
def test_denoising_z_finds_exactly_the_circuit(name, seed):
    o = oracle(name, seed)
    effects = denoised(o, o.planted.pairs(8, seed=1), o.all_heads)
    others = [head for head in o.all_heads if head not in o.planted.heads]
    assert min(effects[head] for head in o.planted.heads) >= 5 * largest(effects, others)
    assert abs(effects[o.planted.decoy]) < 0.01 * effects[o.planted.circuit[o.planted.primary]]
    assert effects[o.planted.circuit["previous"]] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_what_each_corruption_needs_of_the_circuit(name):
    o = oracle(name)
    reaches = {
        "subject": o.planted.heads,
        "query": o.planted.heads - {o.planted.circuit["previous"]},
        "object": {o.planted.circuit[o.planted.primary], o.planted.saturated},
    }
    for corruption, carriers in reaches.items():
        effects = denoised(o, o.planted.pairs(8, seed=2, corruption=corruption), sorted(o.planted.heads))
        for head in o.planted.heads:
            assert (effects[head] > 0.3) == (head in carriers), (corruption, head)
            assert head in carriers or abs(effects[head]) < 0.02


@pytest.mark.parametrize("how", ["zero", "mean", "resample"])
@pytest.mark.parametrize("name", NAMES)
def test_ablation_finds_exactly_the_circuit(name, how):
    o = oracle(name)
    pairs, others = o.planted.pairs(8, seed=3), o.planted.pairs(8, seed=4)
    z = o.z(others.clean)
    values = {
        "zero": {head: torch.zeros(()) for head in z},
        "mean": {head: value.mean((0, 1)) for head, value in z.items()},
        "resample": z,
    }[how]
    cost = ablated(o, pairs, values)
    unplanted = [head for head in o.all_heads if head not in o.planted.heads]
    assert min(cost[head] for head in o.planted.heads) > 3 * largest(cost, unplanted)
    assert cost[o.planted.circuit["previous"]] > 0.8
    assert abs(cost[o.planted.decoy]) < 0.01
    primary = cost[o.planted.circuit[o.planted.primary]]
    # Only zeroing takes the announcement away, so only then does the backup step in.
    assert primary < 0.25 if how == "zero" else primary > 0.35


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_the_backup_is_silent_until_the_primary_is_gone(name, seed):
    o = oracle(name, seed)
    pairs = o.planted.pairs(24, seed=6)
    zero, primary, backup = torch.zeros(()), o.planted.circuit[o.planted.primary], o.planted.backup
    clean, without_backup, without_primary, without_both = (
        o.logit_difference(pairs.clean, pairs, edits).mean().item()
        for edits in ({}, {backup: zero}, {primary: zero}, {primary: zero, backup: zero})
    )
    assert abs(clean - without_backup) < 0.01 * clean
    assert without_both < 0.7 * clean
    assert 0.5 < (without_primary - without_both) / (clean - without_both) < 0.95


@pytest.mark.parametrize("name", NAMES)
def test_the_decoy_attends_as_the_primary_head_does(name):
    o = oracle(name)
    patterns = o.patterns(o.planted.pairs(16, seed=7).clean)
    (layer, head), (decoy_layer, decoy) = o.planted.circuit[o.planted.primary], o.planted.decoy
    assert (patterns[layer][:, head] - patterns[decoy_layer][:, decoy]).abs().max() < 1e-2
    # And that pattern is the circuit's: three quarters on one earlier word, not on the first token.
    assert patterns[layer][:, head, -1, 1:].max(-1).values.mean() > 0.6


@pytest.mark.parametrize("name", NAMES)
def test_the_previous_token_head_looks_one_place_back(name):
    o = oracle(name)
    tokens = o.planted.pairs(16, seed=8, length=62).clean
    layer, head = o.planted.circuit["previous"]
    pattern = o.patterns(tokens)[layer][:, head]
    back = pattern.diagonal(-1, 1, 2)
    is_separator = tokens[:, 1:] == 2
    assert back[~is_separator].min() > 0.99
    assert not is_separator.any() or pattern[:, 1:, 0][is_separator].min() > 0.99


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_miss_the_saturated_softmax_and_see_the_soft_one(name, seed):
    o = oracle(name, seed)
    # The second hop's keys are swapped only where its own facts are, which no corruption of subjects does.
    parts = [("q", "query"), ("k", "subject")] if o.planted.task == "induction" else [("q", "query"), ("q", "subject")]
    for part, corruption in parts:
        pairs = o.planted.pairs(16, seed=9, corruption=corruption)
        exact, first_order = o.exact_and_first_order("saturated", part, pairs)
        assert exact > 2
        assert abs(first_order) < 0.1 * exact
        exact, first_order = o.exact_and_first_order(o.planted.primary, part, pairs)
        assert exact > 2
        assert 0.3 * exact < first_order < 3 * exact
    pairs = o.planted.pairs(16, seed=9, corruption="object")
    for role in ("saturated", o.planted.primary):
        exact, first_order = o.exact_and_first_order(role, "v", pairs)
        assert exact > 2
        assert first_order == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_random_components_write_as_much_as_planted_ones(name, seed):
    o = oracle(name, seed)
    pairs = o.planted.pairs(16, seed=10)
    mlps: list[Tensor] = []
    with ExitStack() as stack:
        for block in o.blocks:
            handle = block.mlp.register_forward_hook(lambda module, args, output: mlps.append(output.norm(dim=-1)))
            stack.callback(handle.remove)
        z = o.z(pairs.clean)
    writes = {(layer, head): (value @ o.write_matrix(layer, head)).norm(dim=-1) for (layer, head), value in z.items()}
    # A planted head acts where there is something to find; elsewhere it rests.
    at_work = {head: writes[head].max(dim=1).values.mean() for head in (*o.planted.heads, o.planted.decoy)}
    planted_mean = torch.stack(list(at_work.values())).mean()
    for head, norm in at_work.items():
        assert 1 / 3 < norm / planted_mean < 3, head
    for norm in (*(writes[head].mean() for head in o.random_heads), *(norm.mean() for norm in mlps)):
        assert 0.3 < norm / planted_mean < 3


@pytest.mark.parametrize("name", NAMES)
def test_left_padding_and_shared_batches_change_nothing(name):
    o = oracle(name)
    short, long = o.planted.pairs(4, seed=11, length=20), o.planted.pairs(4, seed=12, length=32)
    padded = torch.cat([torch.full((4, 12), o.planted.tokenizer.pad_token_id), short.clean], dim=1)
    tokens = torch.cat([padded, long.clean])
    mask = (tokens != o.planted.tokenizer.pad_token_id).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        together = o.planted.model(tokens, attention_mask=mask, position_ids=positions).logits[:, -1]
        alone = torch.cat([o.planted.model(rows).logits[:, -1] for rows in (short.clean, long.clean)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_text_prompts_are_the_same_tokens(name):
    o = oracle(name)
    tokenizer, pairs = o.planted.tokenizer, o.planted.pairs(8, seed=13)
    texts = tokenizer.batch_decode(pairs.clean, skip_special_tokens=True)
    assert texts[0].startswith(" ")
    assert torch.equal(tokenizer(texts, return_tensors="pt")["input_ids"], pairs.clean)
    assert tokenizer(texts[0].strip())["input_ids"] == pairs.clean[0].tolist()
    marked = tokenizer.decode(pairs.clean[0])
    assert tokenizer(marked, add_special_tokens=False)["input_ids"] == pairs.clean[0].tolist()
    assert tokenizer(" a3", add_special_tokens=False)["input_ids"] == tokenizer.convert_tokens_to_ids([" a3"])
    uneven = tokenizer([texts[0], " a3 a4"], padding=True, return_tensors="pt")
    assert uneven["attention_mask"][1].tolist() == [0] * 17 + [1] * 3


def test_generation_completes_the_pattern():
    o = oracle("planted-induction-llama")
    prompt = o.planted.tokenizer(" a0 a1 a2 a3 a4 a5 b0 b1 a1", return_tensors="pt")
    generated = o.planted.model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert o.planted.tokenizer.decode(generated[0, -3:]) == " a2 a3 a4"


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_loads_by_path(name, tmp_path):
    o = oracle(name)
    o.planted.save(tmp_path)
    pairs = o.planted.pairs(4, seed=14)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(pairs.clean).logits, o.planted.model(pairs.clean).logits)
    text = tokenizer.decode(pairs.clean[0], skip_special_tokens=True)
    assert tokenizer(text)["input_ids"] == pairs.clean[0].tolist()
    key = json.loads((tmp_path / "circuit.json").read_text())
    assert {role: tuple(head) for role, head in key["circuit"].items()} == dict(o.planted.circuit)
    assert set(key["expected"]) == {*o.planted.circuit, "decoy", "backup"}


def test_a_seed_decides_every_weight_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    first = planted.build("planted-two-hop-llama", seed=3)
    drawn = torch.rand(())
    torch.manual_seed(1)
    assert drawn == torch.rand(())
    torch.manual_seed(2)
    second, other = planted.build("planted-two-hop-llama", seed=3), planted.build("planted-two-hop-llama", seed=4)
    assert first.circuit == second.circuit
    weights, again = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert not torch.equal(weights["lm_head.weight"], other.model.state_dict()["lm_head.weight"])
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_the_llama_has_grouped_queries_and_no_role_shares_its_keys():
    for name in ("planted-induction-llama", "planted-two-hop-llama"):
        for seed in range(4):
            p = planted.build(name, seed)
            groups = p.model.config.num_attention_heads // p.model.config.num_key_value_heads
            assert groups == 2
            roles = [*p.circuit.values(), p.decoy, p.backup]
            assert len({(layer, head // groups) for layer, head in roles}) == len(roles)
            assert p.backup[0] > p.circuit[p.primary][0]


def test_bad_requests_name_what_was_wrong():
    with pytest.raises(ValueError, match="'planted-nothing'; there are planted-induction-gpt2"):
        planted.build("planted-nothing")
    with pytest.raises(ValueError, match="'gpt2' or 'llama', and is 'bloom'"):
        planted.induction("bloom")
    p = oracle("planted-two-hop-gpt2").planted
    with pytest.raises(ValueError, match="not 15"):
        p.pairs(2, length=15)
    with pytest.raises(ValueError, match="at least 1, and is 0"):
        p.pairs(0)
    with pytest.raises(ValueError, match="'answer'"):
        p.pairs(2, corruption="answer")
    with pytest.raises(ValueError, match="6 to 62 tokens, not 100"):
        oracle("planted-induction-gpt2").planted.pairs(2, length=100)
    with pytest.raises(AttributeError):
        replace(p).seed = 1
