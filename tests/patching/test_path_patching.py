"""Path patching against plain hooks that pin every component, TransformerLens, closed forms and planted circuits."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import architectures
import circuitkit as ck
from circuitkit import Site
from circuitkit.model import SiteError, planted
from circuitkit.patching import direct_effects, path_patching, paths
from circuitkit.results import Result

LENGTH = 7


def drawn_pairs(padded: bool = False, n: int = 3) -> ck.Pairs:
    """Pairs that differ at their third real token, as text; padded, of 7, 6 and 5 tokens."""
    generator = torch.Generator().manual_seed(4)
    rows = torch.randint(5, architectures.VOCABULARY, (n, LENGTH), generator=generator)
    answers = torch.randint(5, architectures.VOCABULARY, (n, 2), generator=generator)
    clean, corrupt = [], []
    for number, row in enumerate(rows.tolist()):
        row = row[: LENGTH - number] if padded else row
        clean.append(" ".join(f"w{token}" for token in row))
        row[2] = (row[2] + 7) % 60 + 5
        corrupt.append(" ".join(f"w{token}" for token in row))
    return ck.Pairs(clean, corrupt, answers[:, 0], answers[:, 1])


@cache
def built(name: str) -> tuple[Any, ck.Model]:
    hf, tokenizer = architectures.build(name)
    return hf, ck.Model(hf, tokenizer, name=name)


# The oracle: where each class keeps its parts, and runs in which plain hooks pin everything


@dataclass
class Parts:
    embed: nn.Module
    block: nn.Module
    attn: nn.Module
    mlp: nn.Module
    o: nn.Module
    qkv: tuple[nn.Module, nn.Module, nn.Module]
    columns: Callable[[str, int], slice]


def side_by_side(width: int) -> Callable[[str, int], slice]:
    return lambda kind, head: slice(head * width, (head + 1) * width)


def parts(name: str, hf: Any) -> list[Parts]:
    if name == "gpt2":

        def fused(kind: str, head: int) -> slice:
            start = "qkv".index(kind) * 32 + head * 8
            return slice(start, start + 8)

        return [
            Parts(hf.transformer.wte, b, b.attn.c_proj, b.mlp, b.attn.c_proj, (b.attn.c_attn,) * 3, fused)
            for b in hf.transformer.h
        ]
    if name in ("gpt_neox", "bloom"):

        def interleaved(kind: str, head: int) -> slice:
            start = (head * 3 + "qkv".index(kind)) * 8
            return slice(start, start + 8)

        if name == "gpt_neox":
            return [
                Parts(hf.gpt_neox.embed_in, b, a.dense, b.mlp, a.dense, (a.query_key_value,) * 3, interleaved)
                for b in hf.gpt_neox.layers
                for a in [b.attention]
            ]
        return [
            Parts(
                hf.transformer.word_embeddings,
                b,
                a.dense,
                b.mlp.dense_4h_to_h,
                a.dense,
                (a.query_key_value,) * 3,
                interleaved,
            )
            for b in hf.transformer.h
            for a in [b.self_attention]
        ]
    if name == "falcon":

        def grouped(kind: str, head: int) -> slice:
            start = (head // 2 * 4 + head % 2 if kind == "q" else head * 4 + (2 if kind == "k" else 3)) * 8
            return slice(start, start + 8)

        return [
            Parts(hf.transformer.word_embeddings, b, a.dense, b.mlp, a.dense, (a.query_key_value,) * 3, grouped)
            for b in hf.transformer.h
            for a in [b.self_attention]
        ]
    post = name in ("gemma2", "olmo2")
    return [
        Parts(
            hf.model.embed_tokens,
            b,
            b.post_attention_layernorm if post else a.o_proj,
            b.post_feedforward_layernorm if post else b.mlp,
            a.o_proj,
            (a.q_proj, a.k_proj, a.v_proj),
            side_by_side(a.head_dim),
        )
        for b in hf.model.layers
        for a in [b.self_attn]
    ]


def first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


class Oracle:
    """Path patching by its definition: one run with every branch pinned, and one with the receivers' new values."""

    def __init__(self, name: str, pairs: ck.Pairs, direction: str = "denoise") -> None:
        self.hf, self.model = built(name)
        self.pairs, self.parts = pairs, parts(name, self.hf)
        ends = (pairs.corrupt, pairs.clean) if direction == "denoise" else (pairs.clean, pairs.corrupt)
        self.inputs, source = (self.model.tokens(prompts) for prompts in ends)
        self.base, self.source = self.run(self.inputs)[1], self.run(source)[1]

    def run(self, tokens: Any, edit: Callable[[Any, Tensor], Tensor | None] = lambda place, value: None) -> Any:
        """Logits, and every place's value before `edit` replaces it."""
        seen: dict[Any, Tensor] = {}

        def act(place: Any, value: Tensor) -> Tensor | None:
            seen[place] = value.clone()
            return edit(place, value)

        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            stack.enter_context(after(self.parts[0].embed, lambda value: act("embed", value)))
            for layer, part in enumerate(self.parts):
                stack.enter_context(before(part.o, lambda value, at=layer: act(("z", at), value)))
                for kind, module in zip("qkv", part.qkv, strict=True):
                    stack.enter_context(after(module, lambda value, at=layer, k=kind: act((k, at), value)))
                stack.enter_context(after(part.attn, lambda value, at=layer: act(("attn_out", at), value)))
                stack.enter_context(after(part.mlp, lambda value, at=layer: act(("mlp_out", at), value)))
            stack.enter_context(after(self.parts[-1].block, lambda value: act("last", value)))
            more = {}
            if self.model.accepts("position_ids"):
                more["position_ids"] = tokens.positions.clamp(min=0)
            logits = self.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long(), **more).logits
        return logits, seen

    def __call__(self, senders: list[Site], receivers: list[Site]) -> Tensor:
        heads = {(s.layer, s.head) for s in senders if s.kind == "z"}
        wholes = {"embed" if s.kind == "embed" else (s.kind, s.layer) for s in senders if s.kind != "z"}

        def pin(place: Any, value: Tensor) -> Tensor | None:
            sending = place[1] in {layer for layer, _ in heads} if place != "embed" else False
            if place in wholes:
                return self.source[place].clone()
            if place == "embed" or place[0] == "mlp_out" or (place[0] == "attn_out" and not sending):
                # A copy, since Falcon adds to it in place.
                return self.base[place].clone()
            if place[0] == "z" and sending:
                new = self.base[place].clone()
                width = new.shape[-1] // self.model.n_heads(place[1])
                for layer, head in heads:
                    if layer == place[1]:
                        at = side_by_side(width)("z", head)
                        new[..., at] = self.source[place][..., at]
                return new
            return None

        _, pinned = self.run(self.inputs, pin)

        def put(place: Any, value: Tensor) -> Tensor | None:
            value = value.clone()
            for receiver in receivers:
                if receiver.kind == "resid_post" and place == "last":
                    return value + pinned["last"] - self.base["last"]
                if place != (receiver.kind, receiver.layer):
                    continue
                if receiver.head is None:
                    return pinned[place]
                if receiver.kind == "z":
                    at = side_by_side(value.shape[-1] // self.model.n_heads(receiver.layer))("z", receiver.head)
                else:
                    at = self.parts[receiver.layer].columns(receiver.kind, receiver.head)
                value[..., at] = pinned[place][..., at]
            return value

        logits = self.run(self.inputs, put)[0][:, -1]
        rows = torch.arange(len(logits))
        return logits[rows, self.pairs.answer] - logits[rows, self.pairs.distractor]


@contextmanager
def after(module: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        new = act(first(output))
        return None if new is None else (new if isinstance(output, Tensor) else (new, *output[1:]))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def before(module: nn.Module, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    def hook(module: nn.Module, args: Any) -> Any:
        new = act(args[0])
        return None if new is None else (new, *args[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def reads(sender: Site, receiver: Site, parallel: bool) -> bool:
    if sender.kind == "embed" or receiver.kind == "resid_post":
        return True
    through_the_middle = sender.kind != "mlp_out" and receiver.kind == "mlp_out" and not parallel
    return sender.layer < receiver.layer or (sender.layer == receiver.layer and through_the_middle)


EVERY = ("gpt2", "llama", "gemma2", "gpt_neox", "olmo2", "qwen3", "bloom", "falcon")


@pytest.mark.parametrize("name", EVERY)
def test_paths_equal_runs_in_which_plain_hooks_pin_everything(name):
    _, model = built(name)
    pairs = drawn_pairs(padded=name in ("llama", "gemma2", "bloom"))
    senders = [Site("embed"), *(Site("z", layer=at, head=3 - at) for at in (0, 1, 2)), Site("attn_out", layer=1)]
    senders += [Site("mlp_out", layer=at) for at in (0, 1)]
    receivers = [Site(kind, layer=at, head=1) for at in (1, 2) for kind in ("q", "k", "v")]
    receivers += [Site("z", layer=1, head=0), Site("attn_out", layer=2), Site("resid_post", layer=-1)]
    receivers += [Site("mlp_out", layer=at) for at in (0, 1, 2)]
    result = paths(model, pairs, senders, receivers, progress=False)
    assert result.axes == ("sender", "receiver")
    oracle, moved, parallel = Oracle(name, pairs), 0, name in ("gpt_neox", "falcon")
    for row, sender in enumerate(senders):
        for column, receiver in enumerate(receivers):
            got = result.per_example[row, column]
            assert got.isfinite().all() == reads(sender, receiver, parallel), (sender, receiver)
            if got.isnan().all():
                continue
            expected = oracle([sender], [receiver])
            moved += int((expected - result.baseline.corrupt).abs().max() > 1e-3)
            torch.testing.assert_close(
                got, expected, atol=1e-5, rtol=1e-5, msg=lambda m, s=sender, r=receiver: f"{s} {r} {m}"
            )
    assert moved > 30


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neox"])
def test_sets_send_and_receive_together(name, direction):
    pairs = drawn_pairs()
    heads = [Site("z", layer=1, head=0), Site("z", layer=1, head=2)]
    sent = [heads, [Site("embed"), *heads, Site("mlp_out", layer=0), Site("mlp_out", layer=1)]]
    inputs = [Site("q", layer=2, head=0), Site("q", layer=2, head=3), Site("k", layer=2, head=1)]
    received = [inputs, [*inputs, Site("mlp_out", layer=1)], [*inputs, Site("resid_post", layer=-1)]]
    result = paths(built(name)[1], pairs, sent, received, direction=direction, progress=False)
    oracle = Oracle(name, pairs, direction)
    expected = torch.stack([torch.stack([oracle(s, r) for r in received]) for s in sent])
    torch.testing.assert_close(result.per_example, expected, atol=1e-5, rtol=1e-5)
    assert result.coordinates["sender"][0] == "z[layer=1, head=0] + z[layer=1, head=2]"


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_heads_equal_transformer_lens(component, tmp_path):
    from transformer_lens import patching
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(architectures.folder("gpt2", tmp_path)))
    _, model = built("gpt2")
    pairs = drawn_pairs()
    clean, corrupt = (model.tokens(prompts).ids for prompts in (pairs.clean, pairs.corrupt))

    def metric(logits: Tensor) -> Tensor:
        rows = torch.arange(len(logits))
        return (logits[rows, -1, pairs.answer] - logits[rows, -1, pairs.distractor]).mean()

    caches = [bridge.run_with_cache(prompts)[1] for prompts in (clean, corrupt)]
    # Its sweep over one source at a time, from every source: `get_act_patch_direct_path` in a loop.
    theirs = patching.get_act_patch_direct_path_all_sources(
        bridge, corrupt, *caches, metric, component=component, verbose=False
    )
    sent = [(layer, head) for layer in range(2) for head in range(4)]
    result = paths(model, pairs, [Site("z", *head) for head in sent], component, progress=False)
    for (layer, head), ours in zip(sent, result.values.view(-1, 3, 4), strict=True):
        assert ours[: layer + 1].isnan().all()
        torch.testing.assert_close(ours[layer + 1 :], theirs[layer, head, layer + 1 :], atol=1e-4, rtol=1e-4)


# Closed forms


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_all_that_is_written_before_a_head_is_what_patching_the_head_does(name):
    _, model = built(name)
    pairs, layer = drawn_pairs(padded=True), 2
    everything = [Site("embed"), *(Site(kind, layer=at) for at in range(layer) for kind in ("attn_out", "mlp_out"))]
    result = paths(model, pairs, [everything], Site("z", layer=layer), progress=False)
    whole = ck.patching.sweep(model, pairs, over="z", layers=[layer], progress=False)
    torch.testing.assert_close(result.per_example[0], whole.per_example[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_all_that_is_written_is_the_source_run(name):
    _, model = built(name)
    result = direct_effects(model, drawn_pairs(padded=True), [["embed", "attn_out", "mlp_out"]], progress=False)
    assert result.axes == ("sender",)
    torch.testing.assert_close(result.per_example[0], result.baseline.clean, atol=1e-5, rtol=1e-5)


def test_whole_answers_are_teacher_forced():
    base = drawn_pairs()
    pairs = ck.Pairs(base.clean, base.corrupt, torch.tensor([[11, 12], [13, 14], [15, 16]]))
    sets = [["embed", "attn_out", "mlp_out"], [Site("z", 1, 0, position=-1)], [Site("z", 1, 0, position=LENGTH - 1)]]
    result = direct_effects(built("llama")[1], pairs, sets, "log_probability", progress=False)
    torch.testing.assert_close(result.per_example[0], result.baseline.clean, atol=1e-5, rtol=1e-5)
    # The prompt's last token, not the answer's.
    assert torch.equal(result.per_example[1], result.per_example[2])
    assert not torch.equal(result.per_example[1], result.baseline.corrupt)


def test_a_position_narrows_a_sender_and_a_receiver():
    _, model = built("gemma2")
    head, pairs = Site("z", layer=1, head=2), drawn_pairs()
    every = [head.at(position=at) for at in range(LENGTH)]
    sent = [head, every, *every, head.at(position=-1)]
    last = model.n_layers - 1
    query = Site("q", layer=last, head=0)
    key = Site("k", layer=last, head=0)
    received = [query, query.at(position=-1), query.at(position=3), key, [key.at(position=at) for at in range(LENGTH)]]
    got = paths(model, pairs, sent, received, progress=False).per_example
    base = paths(model, pairs, sent, received, progress=False).baseline.corrupt
    torch.testing.assert_close(got[0], got[1], atol=1e-5, rtol=1e-5)
    # Before the token in which prompts differ, nothing is sent; in the last layer, only the last query is read.
    assert torch.equal(got[2:4], base.expand_as(got[2:4]))
    torch.testing.assert_close(got[:, 0], got[:, 1], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(got[:, 2], base.expand_as(got[:, 2]), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(got[8], got[9], atol=1e-6, rtol=1e-6)
    assert (got[8, 0] - base).abs().max() > 1e-4


def test_heads_behind_a_post_norm_are_not_the_sum_of_heads_alone():
    sent = [[Site("z", 1, 0), Site("z", 1, 1)], Site("z", 1, 0), Site("z", 1, 1)]

    def excess(name: str) -> float:
        # Read as logits without a norm, so that only the way into the stream can be nonlinear.
        hf, _ = architectures.build(name)
        final = hf.model.norm if name == "gemma2" else hf.transformer.ln_f
        final.forward = lambda stream: stream
        hf.config.final_logit_softcapping = None
        together, one, other = direct_effects(ck.Model(hf), tokens_of(drawn_pairs()), sent, progress=False).effects
        return float((together - one - other).abs() / together.abs())

    assert excess("gpt2") < 1e-3 < 1e-2 < excess("gemma2")


def tokens_of(pairs: ck.Pairs) -> ck.Pairs:
    _, model = built("gpt2")
    return ck.Pairs(model.tokens(pairs.clean).ids, model.tokens(pairs.corrupt).ids, pairs.answer, pairs.distractor)


def test_names_stand_for_every_layer_and_head():
    _, model = built("llama")
    result = direct_effects(model, drawn_pairs(), progress=False)
    assert len(result.coordinates["sender"]) == 1 + 3 * 4 + 3
    keys = paths(model, drawn_pairs(), "blocks.0.hook_attn_out", ["k"], progress=False)
    assert keys.values.shape == (1, 3 * 2)
    assert keys.values[0, :2].isnan().all() and keys.values[0, 2:].isfinite().all()
    assert set(keys.frame["receiver"]) == set(keys.coordinates["receiver"][2:])


def test_a_model_that_cannot_resume_is_run_whole():
    hf, _ = architectures.build("llama")
    hf.config.num_kv_shared_layers = 1
    sent, received = ["embed", Site("z", 0)], [Site("q", 1), "mlp_out", "resid_post"]
    with pytest.warns(UserWarning, match="every run has to be whole"):
        whole = paths(ck.Model(hf), tokens_of(drawn_pairs()), sent, received, progress=False)
    resumed = paths(built("llama")[1], drawn_pairs(), sent, received, progress=False)
    torch.testing.assert_close(whole.per_example, resumed.per_example, atol=1e-5, rtol=1e-5, equal_nan=True)


def test_memory_that_runs_out_halves_the_senders_at_a_time(monkeypatch):
    class Small(path_patching.FrozenRun):
        def changes(self, sets):
            if len(sets) > 2:
                raise torch.OutOfMemoryError("as if")
            return super().changes(sets)

    expected = direct_effects(built("gpt2")[1], drawn_pairs(), progress=False)
    monkeypatch.setattr(path_patching, "FrozenRun", Small)
    with pytest.warns(UserWarning, match="going on with 2 senders"):
        result = direct_effects(built("gpt2")[1], drawn_pairs(), progress=False)
    torch.testing.assert_close(result.per_example, expected.per_example, atol=1e-5, rtol=1e-5)


# Planted circuits


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-induction-llama"])
def test_the_planted_path_is_found(name):
    plant = planted.build(name)
    drawn = plant.pairs(8, seed=1)
    pairs = ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
    model = ck.load(name)
    group = model.n_heads(0) // model.n_kv_heads(0)
    layer, head = plant.circuit["induction"]
    previous = Site("z", *plant.circuit["previous"])
    key, decoy_key = Site("k", layer, head // group), Site("k", plant.decoy[0], plant.decoy[1] // group)
    result = paths(model, pairs, ["embed", "z", "mlp_out"], [key, decoy_key], progress=False)
    names = result.coordinates["sender"]
    found = result.normalised[:, 0].nan_to_num(0.0)
    at = names.index(str(previous))
    assert int(found.argmax()) == at and found[at] > 0.2
    assert torch.cat([found[:at], found[at + 1 :]]).abs().max() < 0.05
    assert result.normalised[:, 1].nan_to_num(0.0).abs().max() < 0.05
    queries = paths(model, pairs, previous, [Site("q", layer, head), Site("v", layer, head // group)], progress=False)
    assert queries.normalised.abs().max() < 0.05

    direct = direct_effects(model, pairs, "z", progress=False)
    shares = dict(zip(direct.coordinates["sender"], direct.normalised.tolist(), strict=True))
    readers = {str(Site("z", *plant.circuit[role])) for role in ("induction", "saturated")}
    assert {site for site, share in shares.items() if share > 0.1} == readers
    assert abs(shares[str(Site("z", *plant.decoy))]) < 0.05 and abs(shares[str(previous)]) < 0.05


# Bad input


def test_what_cannot_be_is_refused_by_name():
    _, model = built("llama")
    pairs = drawn_pairs()

    def ask(senders: Any, receivers: Any, **more: Any) -> None:
        paths(model, pairs, senders, receivers, progress=False, **more)

    with pytest.raises(SiteError, match=r"scores\[layer=1\] cannot be among the receivers: a head receives by 'q'"):
        ask("z", Site("scores", 1))
    with pytest.raises(SiteError, match=r"resid_mid\[layer=1\] cannot be among the receivers.*an MLP by 'mlp_out'"):
        ask("z", Site("resid_mid", 1))
    with pytest.raises(SiteError, match=r"q\[layer=0\] cannot be among the senders: heads send by 'z'"):
        ask(Site("q", 0), "k")
    with pytest.raises(SiteError, match="only the last does"):
        ask("z", Site("resid_post", 1))
    with pytest.raises(SiteError, match=r"z\[layer=2, head=1\] cannot reach q\[layer=1, head=0\]"):
        ask(Site("z", 2, 1), Site("q", 1, 0))
    with pytest.raises(SiteError, match=r"z\[layer=1, head=1\] cannot reach q\[layer=1, head=0\]"):
        ask(Site("z", 1, 1), Site("q", 1, 0))
    with pytest.raises(ValueError, match="there are no senders"):
        ask([], "q")
    with pytest.raises(ValueError, match="there are no receivers, or a set of them is empty"):
        ask("z", [[]])
    with pytest.raises(SiteError, match="beside attn_out"):
        ask([[Site("z", 0, 1), Site("attn_out", 0)]], "q")
    with pytest.raises(SiteError, match="key/value heads 0 to 1"):
        ask("embed", Site("k", 1, 3))
    with pytest.raises(ValueError, match="'denoise' or 'noise'"):
        ask("embed", "q", direction="both")
    with pytest.raises(ck.model.PromptError, match="position 9 does not exist"):
        ask(Site("z", 0, 0, position=9), "q")


def test_in_a_parallel_layer_attention_does_not_reach_the_mlp():
    with pytest.raises(SiteError, match=r"cannot reach mlp_out\[layer=1\]"):
        paths(built("gpt_neox")[1], drawn_pairs(), Site("z", 1, 0), Site("mlp_out", 1), progress=False)
    reached = paths(built("gpt2")[1], drawn_pairs(), Site("z", 1), Site("mlp_out", 1), progress=False)
    assert reached.values.isfinite().all()


def test_senders_stand_beside_random_ones_of_their_layers():
    model, pairs = built("llama")[1], drawn_pairs()
    receivers = [Site("k", 1, 0), Site("resid_post", -1)]
    senders = [Site("z", 0, 1), (Site("z", 0, 0), Site("z", 2, 3)), "embed", (Site("z", 0, 1), Site("mlp_out", 0))]
    result = paths(model, pairs, senders, receivers, progress=False)
    assert result.frame["control_n"].tolist() == [3, 3, 9, 9, 0, 0, 0, 0]
    every = paths(model, pairs, ["z"], receivers, progress=False)
    torch.testing.assert_close(result.controls[0, :, :3].T, every.effects[[0, 2, 3]], atol=1e-5, rtol=1e-5)
    both = [(Site("z", 0, a), Site("z", 2, b)) for a in (1, 2, 3) for b in (0, 1, 2)]
    beside = paths(model, pairs, both, receivers, controls=0, progress=False)
    torch.testing.assert_close(result.controls[1].T, beside.effects, atol=1e-5, rtol=1e-5)
    assert beside.frame["control_n"].tolist() == [0] * 18
    # A head of the last layer does not reach the key, nor do those beside it.
    unreached = paths(model, pairs, [Site("z", 2, 0), "embed"], receivers, progress=False)
    assert unreached.controls[0, 0].isnan().all() and unreached.controls[0, 1].isfinite().all()
    assert unreached.frame["control_n"].tolist() == [3, 0, 0]


def test_a_heads_direct_effect_stands_beside_those_of_its_layer(tmp_path):
    model, pairs = built("llama")[1], drawn_pairs()
    result = direct_effects(model, pairs, progress=False)
    heads = [at for at, name in enumerate(result.coordinates["sender"]) if name.startswith("z[layer=1")]
    frame = result.frame.set_index("sender")
    row = frame.loc["z[layer=1, head=2]"]
    others = result.effects[[at for at in heads if "head=2" not in result.coordinates["sender"][at]]]
    assert row["control_n"] == 3 and row["control_mean"] == pytest.approx(float(others.mean()), abs=1e-6)
    assert frame.loc["embed[]", "control_n"] == 0 and frame.loc[["embed[]"], "control_p"].isna().all()
    alone = direct_effects(model, pairs, [Site("z", 1, 2)], progress=False)
    torch.testing.assert_close(alone.controls[0], others, atol=1e-5, rtol=1e-5)
    assert Result.load(alone.save(tmp_path)) == alone


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-induction-llama"])
def test_planted_senders_tell_more_than_any_beside_them(name):
    plant = planted.build(name)
    pairs = ck.Pairs(*plant.pairs(8, seed=3, length=12))
    senders = tuple(Site("z", *plant.circuit[role]) for role in ("induction", "saturated"))
    assert len({site.layer for site in senders}) == 1
    result = direct_effects(ck.load(name), pairs, [senders], progress=False)
    # Six others of that layer make fifteen other couples.
    assert result.frame["control_n"].tolist() == [15]
    assert result.frame["control_p"][0] == pytest.approx(1 / 16)
