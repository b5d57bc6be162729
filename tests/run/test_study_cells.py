"""Cells of studies against plain hooks on each prompt alone, over random small models, prompts, answers and parts."""

import functools
from dataclasses import dataclass
from unittest import mock

import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import architectures
import circuitkit as ck
from circuitkit.metrics import PADDING, Targets
from circuitkit.run import batching
from circuitkit.study import Study
from run import by_hand

VOCABULARY = 23
# Shrinking a model takes minutes, and what is drawn is small.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
HEADED = ("q", "k", "v", "z", "scores", "pattern")
KINDS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", *HEADED)


@dataclass
class Drawn:
    model: nn.Module
    heads: dict[str, int]
    clean: list[list[int]]
    corrupt: list[list[int]]
    answers: list[list[int]]
    tokens_at_once: int
    rounding: float

    def assert_equal(self, value: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(value, expected.to(value), rtol=self.rounding, atol=self.rounding)

    @property
    def shortest(self) -> int:
        return min(map(len, self.clean))


@st.composite
def studies(draw: st.DrawFn) -> Drawn:
    layers, n_kv, per_kv = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    seed, heads = draw(st.integers(0, 1000)), n_kv * per_kv
    if draw(st.booleans()):
        sizes = {"n_positions": 16, "n_embd": 8 * heads, "n_layer": layers, "n_head": heads}
        model, n_kv, rounding = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes)), heads, 1e-12
    else:
        sizes = {"hidden_size": 8 * heads, "intermediate_size": 24, "num_hidden_layers": layers}
        attention = {"num_attention_heads": heads, "num_key_value_heads": n_kv, "max_position_embeddings": 16}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes, **attention))
        # Its norms and explicit softmax are in fp32 whatever the weights are in.
        rounding = 1e-5
    architectures.randomise(model, seed)
    ids = st.integers(3, VOCABULARY - 1)
    lengths = draw(st.lists(st.integers(3, 7), min_size=1, max_size=3))
    clean, corrupt = ([draw(st.lists(ids, min_size=length, max_size=length)) for length in lengths] for _ in range(2))
    answers = [draw(st.lists(ids, min_size=1, max_size=3)) for _ in lengths]
    counts = {kind: n_kv if kind in "kv" else heads for kind in HEADED}
    return Drawn(
        model.double().eval(), counts, clean, corrupt, answers, draw(st.sampled_from([1, 9, 20, 512])), rounding
    )


def log_probability(drawn: Drawn, row: int, prompt: list[int], edits: by_hand.Edits) -> Tensor:
    """What one prompt, run alone, makes of its answer."""
    answer = drawn.answers[row]
    logits = by_hand.logits(drawn.model, torch.tensor([prompt + answer[:-1]]), None, edits)[0, len(prompt) - 1 :]
    return logits.log_softmax(-1)[range(len(answer)), answer].sum()


def kept(drawn: Drawn, row: int, prompt: list[int], at: tuple[str, int]) -> Tensor:
    seen: list[Tensor] = []
    log_probability(drawn, row, prompt, {at: lambda tensor: seen.append(tensor.clone()) or tensor})
    return seen[0]


def block(kind: str, head: int | None, position: int | None) -> tuple[slice | int, ...]:
    """The part of a whole site's tensor that a cell changes."""
    where = slice(None) if position is None else position
    if kind in ("scores", "pattern"):
        return (slice(None), head, where)
    return (slice(None), where) if head is None else (slice(None), where, head)


@given(
    drawn=studies(), kind=st.sampled_from(KINDS), placed=st.booleans(), direction=st.sampled_from(["noise", "denoise"])
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_every_cell_of_a_sweep_is_the_naive_run(drawn, kind, placed, direction):
    positions = range(drawn.shortest) if placed or kind not in HEADED else None
    pairs = ck.Pairs(drawn.clean, drawn.corrupt, drawn.answers)
    with mock.patch.object(batching, "_TOKENS_AT_ONCE_ON_CPU", drawn.tokens_at_once):
        result = ck.patching.sweep(
            ck.Model(drawn.model), pairs, kind, "log_probability", direction, positions=positions, progress=False
        )
    ends = (drawn.corrupt, drawn.clean) if direction == "denoise" else (drawn.clean, drawn.corrupt)
    axis = "query" if "query" in result.axes else "position"
    # What a prompt holds is the same for every cell of a layer.
    held = functools.cache(lambda row, layer: kept(drawn, row, ends[1][row], (kind, layer)))
    for _, cell in result.frame.iterrows():
        layer, head = int(cell["layer"]), int(cell["head"]) if kind in HEADED else None
        position = int(cell[axis]) if positions is not None else None
        place = tuple(result.coordinates[each].index(int(cell[each])) for each in result.axes)
        for row, base in enumerate(ends[0]):
            value, part = held(row, layer), block(kind, head, position)

            def patched(tensor: Tensor, value: Tensor = value, part: tuple[slice | int, ...] = part) -> Tensor:
                tensor[part] = value[part]
                return tensor

            expected = log_probability(drawn, row, base, {(kind, layer): patched})
            drawn.assert_equal(result.per_example[(*place, row)], expected)
    for row, (clean, corrupt) in enumerate(zip(drawn.clean, drawn.corrupt, strict=True)):
        for prompt, values in ((clean, result.baseline.clean), (corrupt, result.baseline.corrupt)):
            expected = log_probability(drawn, row, prompt, {})
            drawn.assert_equal(values[row], expected)


@given(drawn=studies(), data=st.data())
@settings(max_examples=30, deadline=None, phases=PHASES)
@torch.no_grad()
def test_knocked_out_edges_are_the_naive_runs(drawn, data):
    """Each row has its own edges, and some rows have none; a query always keeps itself."""
    layer, head = data.draw(st.integers(0, drawn.model.config.num_hidden_layers - 1)), 0
    edges = [
        (query, data.draw(st.lists(st.integers(0, query - 1), unique=True, max_size=2)))
        for query in (data.draw(st.integers(1, len(prompt) - 1)) for prompt in drawn.clean)
    ]
    if not any(keys for _, keys in edges):
        edges[0] = (1, [0])
    width = max(map(len, drawn.answers))
    answers = torch.tensor([answer + [PADDING] * (width - len(answer)) for answer in drawn.answers])
    model = ck.Model(drawn.model)
    study = Study.of(model, model.tokens(drawn.clean), Targets(answers), "log_probability", "ablate")
    cut = ck.knockout(layer, head, queries=[[query] for query, _ in edges], keys=[keys for _, keys in edges])
    with mock.patch.object(batching, "_TOKENS_AT_ONCE_ON_CPU", drawn.tokens_at_once):
        values = study.measured([[cut], [ck.scale(f"mlp_out[layer={layer}]", 0.5), cut]], "", progress=False)
    for row, (prompt, (query, keys)) in enumerate(zip(drawn.clean, edges, strict=True)):

        def masked(scores: Tensor, query: int = query, keys: list[int] = keys) -> Tensor:
            scores[:, head, query, keys] = -torch.inf
            return scores

        edits = {("scores", layer): masked}
        for cell, also in enumerate(({}, {("mlp_out", layer): lambda tensor: tensor * 0.5})):
            expected = log_probability(drawn, row, prompt, {**also, **edits})
            drawn.assert_equal(values[cell, row], expected)
