"""Circuits run by the package against their definition in loops, the model's own runs, ablation and path patching."""

from functools import cache
from typing import Any

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit import Site, metrics
from circuitkit.circuits import CircuitError, Convention, Graph, Layout, run_circuit, run_circuits
from circuitkit.circuits.evaluating.running import Runs
from circuitkit.pairs import PairError
from circuits.evaluating import brute_force

LENGTH = 7
WRITTEN_OUT = ("gpt2", "llama", "gemma2", "gpt_neox")
ABLATIONS = ("patch", "mean", "zero")


@cache
def built(name: str, dtype: torch.dtype = torch.float32) -> ck.Model:
    hf, tokenizer = architectures.build(name)
    return ck.Model(hf.to(dtype), tokenizer, name=name)


def drawn_pairs(padded: bool = True, n: int = 3, answer_len: int = 1) -> ck.Pairs:
    """Pairs that differ at their third token; padded, of 7, 6 and 5 tokens."""
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(5, architectures.VOCABULARY, (n, LENGTH), generator=generator)
    answers = torch.randint(5, architectures.VOCABULARY, (2, n, answer_len), generator=generator)
    clean, corrupt = [], []
    for number, row in enumerate(ids.tolist()):
        row = row[: LENGTH - number] if padded else row
        clean.append(list(row))
        row[2] = (row[2] + 7) % 60 + 5
        corrupt.append(row)
    return ck.Pairs(clean, corrupt, answers[0], answers[1])


def circuit(model: ck.Model, share: float, seed: int = 0) -> Graph:
    layout = Layout.of(model)
    drawn = torch.rand(layout.reach.shape, generator=torch.Generator().manual_seed(seed)) < share
    scores = torch.zeros(layout.reach.shape)
    return Graph(layout, scores, drawn & layout.reach, Convention("random", "logit_difference"))


def difference(logits: Tensor, pairs: ck.Pairs, row: int) -> float:
    return float(logits[pairs.answer[row, 0]] - logits[pairs.distractor[row, 0]])


def tokens_of(rows: Any) -> list[Tensor]:
    return [torch.tensor(row) for row in rows]


def by_hand(name: str, graph: Graph, pairs: ck.Pairs, ablation: str, by_position: bool = False) -> list[float]:
    """The logit difference of each example under a circuit, by loops."""
    decoder = brute_force.decoder_of(name, built(name).hf)
    layout = graph.layout
    row_of = {source: row for row, source in enumerate(layout.sources)}
    column_of = {destination: column for column, destination in enumerate(layout.destinations)}
    corrupt = [brute_force.run(decoder, ids)[1] for ids in tokens_of(pairs.corrupt)]
    values = []
    for row, ids in enumerate(tokens_of(pairs.clean)):
        if ablation == "patch":
            replaced = corrupt[row]
        elif ablation == "zero":
            replaced = {source: torch.zeros(1, 1).double() for source in layout.sources}
        elif by_position:
            replaced = {s: torch.stack([each[s] for each in corrupt]).mean(0) for s in layout.sources}
        else:
            replaced = {s: torch.cat([each[s] for each in corrupt]).mean(0, keepdim=True) for s in layout.sources}
        logits, _ = brute_force.run(decoder, ids, lambda u, v: bool(graph.members[row_of[u], column_of[v]]), replaced)
        values.append(difference(logits[-1], pairs, row))
    return values


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_decoders_written_out_are_the_models(name: str) -> None:
    ids, hf = torch.tensor(drawn_pairs().clean[0]), built(name).hf
    found = brute_force.run(brute_force.decoder_of(name, hf), ids)[0]
    assert torch.allclose(found.float(), hf(ids[None]).logits[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", WRITTEN_OUT)
@settings(max_examples=2)
@given(share=st.floats(0.02, 0.98), seed=st.integers(0, 10**6))
def test_a_circuit_is_its_definition_in_loops(name: str, share: float, seed: int) -> None:
    pairs, graph = drawn_pairs(), circuit(built(name), share, seed)
    for ablation in ABLATIONS:
        found = run_circuit(built(name), graph, pairs, ablation=ablation, progress=False)
        assert found.tolist() == pytest.approx(by_hand(name, graph, pairs, ablation), rel=1e-5, abs=1e-5)


def test_means_are_taken_at_each_position_where_prompts_are_of_one_length() -> None:
    pairs, graph = drawn_pairs(padded=False), circuit(built("gpt2"), 0.4)
    by_position, over_all = by_hand("gpt2", graph, pairs, "mean", True), by_hand("gpt2", graph, pairs, "mean")
    assert by_position != pytest.approx(over_all, abs=1e-3)
    for chosen, expected in ((None, by_position), (True, by_position), (False, over_all)):
        found = run_circuit(built("gpt2"), graph, pairs, ablation="mean", by_position=chosen, progress=False)
        assert found.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_reference_of_the_corrupt_prompts_themselves_changes_nothing() -> None:
    pairs, graph, model = drawn_pairs(padded=False), circuit(built("llama"), 0.4), built("llama")
    named = run_circuit(model, graph, pairs, ablation="mean", reference=pairs.corrupt[:2], progress=False)
    fewer = ck.Pairs(pairs.clean[:2], pairs.corrupt[:2], pairs.answer[:2], pairs.distractor[:2])
    assert torch.allclose(named[:2], run_circuit(model, graph, fewer, ablation="mean", progress=False), atol=1e-6)


def check_the_ends(name: str) -> None:
    pairs, model = drawn_pairs(), built(name)
    graph = circuit(model, 1.1)
    runs = Runs.of(model, pairs, progress=False)
    whole, empty = runs.measured(torch.stack([graph.members, graph.empty().members]))
    assert torch.allclose(whole, runs.clean(), rtol=1e-6, atol=2e-6)
    assert torch.allclose(empty, runs.corrupt(), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("name", ["olmo2", "falcon_multi_query", "openelm_style"])
def test_every_edge_is_the_clean_run_and_none_the_corrupt_one(name: str) -> None:
    check_the_ends(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.NAMES)
def test_the_ends_of_every_architecture(name: str) -> None:
    check_the_ends(name)


def test_circuits_side_by_side_are_each_alone_whatever_memory_there_is() -> None:
    model, pairs = built("gemma2"), drawn_pairs()
    graphs = [circuit(model, share, seed) for seed, share in enumerate((0.1, 0.5, 0.9, 1.1, -1.0))]
    together = run_circuits(model, graphs, pairs, progress=False)
    apart = torch.stack([run_circuit(model, each, pairs, batch_size=1, progress=False) for each in graphs])
    starved = run_circuits(model, graphs, pairs, budget=1, progress=False)
    assert torch.allclose(together, apart, atol=2e-6)
    assert torch.allclose(together, starved, atol=2e-6)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_head_whose_edges_are_all_at_zero_is_one_that_ablation_zeroes(name: str) -> None:
    model, pairs = built(name), drawn_pairs()
    whole = circuit(model, 1.1)
    ablated = ck.ablation.sweep(model, pairs, how="zero", progress=False).per_example
    heads = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads(layer))]
    graphs = []
    for layer, head in heads:
        members = whole.members.clone()
        members[whole.layout.source(f"a{layer}.h{head}")] = False
        graphs.append(whole.with_members(members))
    found = run_circuits(model, graphs, pairs, ablation="zero", progress=False)
    expected = torch.stack([ablated[layer, head] for layer, head in heads])
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("source", "destination"), [("a0.h1", "a2.h3<q>"), ("m0", "a1.kv0<v>"), ("a1.h2", "m2")])
def test_an_edge_that_is_out_is_a_path_that_is_patched(source: str, destination: str) -> None:
    model, pairs = built("llama"), drawn_pairs(padded=False)
    whole = circuit(model, 1.1)
    members = whole.members.clone()
    members[whole.layout.source(source), whole.layout.destination(destination)] = False
    sender = Site("mlp_out", 0) if source == "m0" else Site("z", int(source[1]), int(source[-1]))
    receiver = {
        "a2.h3<q>": Site("q", 2, 3),
        "a1.kv0<v>": Site("v", 1, 0),
        "m2": Site("mlp_out", 2),
    }[destination]
    paths = ck.patching.paths(model, pairs, [sender], [receiver], direction="noise", progress=False)
    found = run_circuit(model, whole.with_members(members), pairs, progress=False)
    assert torch.allclose(found, paths.per_example.flatten(0, -2)[0], atol=1e-5)


def test_metrics_that_read_the_clean_run_or_several_tokens() -> None:
    model, pairs = built("gpt2"), drawn_pairs(answer_len=2)
    whole = circuit(model, 1.1)
    graphs = [whole, whole.empty(), circuit(model, 0.5)]
    for metric in (metrics.kl, metrics.cross_entropy):
        runs = Runs.of(model, pairs, metric, progress=False)
        values = run_circuits(model, graphs, pairs, metric, progress=False)
        assert torch.allclose(values[0], runs.clean(), atol=2e-6)
        assert torch.allclose(values[1], runs.corrupt(), rtol=1e-5, atol=2e-5)
        assert bool((values[2] - values[0]).abs().min() > 1e-3)
    with_answers = ck.Pairs(
        [[*row, int(answer[0])] for row, answer in zip(pairs.clean, pairs.answer, strict=True)],
        [[*row, int(answer[0])] for row, answer in zip(pairs.corrupt, pairs.answer, strict=True)],
        pairs.answer[:, 1],
    )
    last = run_circuit(model, graphs[2], with_answers, metrics.cross_entropy, progress=False)
    single = ck.Pairs(pairs.clean, pairs.corrupt, pairs.answer[:, 0])
    first = run_circuit(model, graphs[2], single, metrics.cross_entropy, progress=False)
    # Patched columns behind do not reach those before: the two tokens' losses add up.
    assert torch.allclose(2 * values[2], first + last, atol=1e-5)


def test_positions_without_a_counterpart_keep_what_is_written_there() -> None:
    head, tail = [10, 11, 12], [13, 14]
    clean, corrupt = [*head, 20, *tail], [*head, 30, 31, *tail]
    pairs = ck.Pairs([clean], [corrupt], [[40]], [[50]])
    model, decoder = built("gpt2"), brute_force.decoder_of("gpt2", built("gpt2").hf)
    graph = circuit(model, 0.4)
    written = brute_force.run(decoder, torch.tensor(corrupt))[1]
    stands_for = torch.tensor([0, 1, 2, 0, 5, 6])
    there = torch.tensor([True, True, True, False, True, True])
    rows = {name: row for row, name in enumerate(graph.layout.sources)}
    columns = {name: column for column, name in enumerate(graph.layout.destinations)}
    logits, _ = brute_force.run(
        decoder,
        torch.tensor(clean),
        lambda u, v: bool(graph.members[rows[u], columns[v]]),
        {name: each[stands_for] for name, each in written.items()},
        there,
    )
    found = run_circuit(model, graph, pairs, align="common", progress=False)
    assert found.item() == pytest.approx(float(logits[-1, 40] - logits[-1, 50]), rel=1e-5, abs=1e-5)


def test_adapters_are_run_as_what_they_come_to() -> None:
    hf, tokenizer = architectures.build("llama")
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj", "o_proj"], r=2, init_lora_weights=False)
    torch.manual_seed(0)
    adapted = ck.Model(peft.get_peft_model(hf, config).eval(), tokenizer)
    graph, pairs = circuit(adapted, 0.5), drawn_pairs()
    found = run_circuit(adapted, graph, pairs, progress=False)
    merged = ck.Model(adapted.hf.merge_and_unload(), tokenizer)
    assert torch.allclose(found, run_circuit(merged, graph, pairs, progress=False), atol=1e-5)


def test_half_precision_keeps_the_ends_and_stays_near() -> None:
    model, pairs = built("llama", torch.bfloat16), drawn_pairs(padded=False)
    whole = circuit(model, 1.1)
    runs = Runs.of(model, pairs, batch_size=3, budget=1, progress=False)
    values = runs.measured(torch.stack([whole.members, whole.empty().members, circuit(model, 0.5).members]))
    assert torch.equal(values[0], runs.clean())
    assert torch.equal(values[1], runs.corrupt())
    wide = run_circuit(built("llama"), circuit(model, 0.5), pairs, progress=False)
    assert torch.allclose(values[2], wide, atol=0.15)


# What is refused


def test_a_graph_of_another_architecture_is_refused() -> None:
    with pytest.raises(CircuitError, match="another architecture"):
        run_circuit(built("gpt2"), circuit(built("llama"), 0.5), drawn_pairs(), progress=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ablation": "noise"}, "'patch', 'mean' or 'zero', not 'noise'"),
        ({"reference": [[5, 6]]}, "ablation='patch' there are none"),
        ({"ablation": "zero", "by_position": True}, "ablation='zero' there are none"),
        (
            {"ablation": "mean", "reference": [[5, 6]], "by_position": True},
            "at most 2 tokens says nothing of position 6",
        ),
        ({"batch_size": 0}, "1 or more, not 0"),
        ({"budget": 0}, "bytes a batch may take, 1 or more, not 0"),
        ({"metric": lambda logits, targets: logits.mean()}, "one value per example"),
        ({"metric": lambda logits, targets: logits[:, 0] * torch.nan}, "NaN"),
        ({"metric": "loss"}, "unknown metric"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_circuit(built("gpt2"), circuit(built("gpt2"), 0.5), drawn_pairs(), progress=False, **settings)


def test_pairs_of_unequal_lengths_are_refused_unless_they_are_aligned() -> None:
    pairs = ck.Pairs([[5, 6, 7]], [[5, 6, 7, 8]], [[9]], [[10]])
    with pytest.raises(PairError, match="clean prompt of 3 tokens and a corrupt one of 4"):
        run_circuit(built("gpt2"), circuit(built("gpt2"), 0.5), pairs, progress=False)


def test_no_circuits_and_a_model_with_something_held_on_it_are_refused() -> None:
    model = built("gpt2")
    with pytest.raises(CircuitError, match="no circuits"):
        run_circuits(model, [], drawn_pairs(), progress=False)
    with model.intervene(), pytest.raises(CircuitError, match="leave the intervene context"):
        run_circuit(model, circuit(model, 0.5), drawn_pairs(), progress=False)


def test_a_hook_that_changes_what_heads_make_is_noticed() -> None:
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    graph = circuit(model, 0.5)
    hook = hf.model.layers[1].self_attn.q_proj.register_forward_hook(lambda module, args, output: 2 * output)
    with pytest.raises(CircuitError, match="the q of its heads in layer 1"):
        run_circuit(model, graph, drawn_pairs(), progress=False)
    hook.remove()
    assert run_circuit(model, graph, drawn_pairs(), progress=False).shape == (3,)


def test_weights_that_overflow_are_told() -> None:
    hf, tokenizer = architectures.build("gpt2")
    model = ck.Model(hf, tokenizer)
    graph = circuit(model, 0.5)
    hf.transformer.h[2].mlp.c_proj.weight.fill_(torch.inf)
    with pytest.raises(ValueError, match="NaN"):
        run_circuit(model, graph, drawn_pairs(), progress=False)
