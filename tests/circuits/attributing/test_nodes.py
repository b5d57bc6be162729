"""Node scores against sweeps, gradients of plain hooks, brute force for GradDrop, and planted saturated heads."""

import math

import pytest
import torch

import circuitkit as ck
from circuitkit import Site, metrics
from circuitkit.circuits import CircuitError, NodeScores, attribute_nodes
from circuitkit.model import planted
from circuitkit.spans import Span
from circuits.attributing.hooked_edges import built, drawn_pairs

KINDS = ("q", "k", "v", "z")


def scored(name: str, pairs: ck.Pairs, method: str, **settings) -> NodeScores:
    return attribute_nodes(built(name)[1], pairs, method=method, progress=False, **settings)


def lost(logits: torch.Tensor, pairs: ck.Pairs) -> torch.Tensor:
    rows = torch.arange(len(logits))
    return logits[rows, pairs.distractor] - logits[rows, pairs.answer]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_exact_scores_equal_sweeps(name):
    _, model = built(name)
    pairs = drawn_pairs((6, 6))
    found = scored(name, pairs, "exact")
    for kind in KINDS:
        theirs = ck.patching.sweep(model, pairs, over=kind, direction="noise", controls=0, progress=False).effects
        torch.testing.assert_close(found.map(kind), theirs.float(), atol=1e-5, rtol=1e-5, equal_nan=True)
    sets = {f"m{layer}": [Site("mlp_out", layer=layer)] for layer in range(model.n_layers)}
    theirs = ck.patching.sweep(model, pairs, sets=sets, direction="noise", controls=0, progress=False)
    torch.testing.assert_close(found.map("mlp")[:, 0], theirs.effects.float(), atol=1e-5, rtol=1e-5)
    # All that differs comes in by the input.
    whole = theirs.baseline.clean_mean - theirs.baseline.corrupt_mean
    assert found["input"] == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize(("method", "points"), [("ap", [1.0]), ("ap-ig", [0.25, 0.75])])
def test_gradients_times_differences(method, points):
    _, model = built("llama")
    pairs = drawn_pairs((7, 5))
    found = scored("llama", pairs, method, steps=2, rule="midpoint")
    sites = [Site("q", 1), Site("v", 2), Site("z", 0), Site("mlp_out", 1), Site("resid_pre", 0)]
    clean, corrupt = (model.run(each, capture=sites).cache for each in (pairs.clean, pairs.corrupt))
    expected = dict.fromkeys(sites, 0.0)
    for alpha in points:
        mixed = clean[sites[-1]] * alpha + corrupt[sites[-1]] * (1 - alpha)
        run = model.run(pairs.clean, [ck.replace(sites[-1], mixed)], sites, logits_at=-1, gradients=True)
        gradients = run.gradients(lost(run.logits, pairs))
        for site in sites:
            share = (
                (corrupt[site] - clean[site])
                * gradients[site]
                * run.tokens.mask.view(2, -1, *[1] * (clean[site].ndim - 2))
            )
            expected[site] = expected[site] + share.sum((1, -1)) / len(points)
    for site in sites:
        kind = {"mlp_out": "mlp", "resid_pre": "input"}.get(site.kind, site.kind)
        here = [node.kind == kind and max(0, node.layer) == site.layer for node in found.nodes]
        torch.testing.assert_close(found.per_example[:, here].squeeze(-1), expected[site], atol=1e-5, rtol=1e-4)


def test_the_qk_fix_is_the_change_of_the_pattern_times_its_gradient():
    _, model = built("llama")
    pairs, pattern = drawn_pairs((7, 5)), Site("pattern", layer=1)
    found = scored("llama", pairs, "atp*", grad_drop=False, spans={"late": Span.at(-1, -2)})
    plain = scored("llama", pairs, "ap", spans={"late": Span.at(-1, -2)})
    run = model.run(pairs.clean, capture=[pattern], logits_at=-1, gradients=True)
    gradient, clean = run.gradients(lost(run.logits, pairs))[pattern], run.cache[pattern].detach()
    real = run.tokens.mask[:, None, :, None]
    late = run.tokens.positions >= run.tokens.lengths[:, None] - 2
    for kind, head in (("q", 2), ("k", 1)):
        site = Site(kind, layer=1, head=head)
        corrupt, own = (model.run(each, capture=[site]).cache[site] for each in (pairs.corrupt, pairs.clean))
        node = f"a1.h{head}<q>" if kind == "q" else f"a1.kv{head}<k>"
        number = [each.name for each in found.nodes].index(node)
        for where, scores in ((run.tokens.mask, found.per_example), (late, found.by_span["late"])):
            value = torch.where(where[..., None], corrupt, own)
            patched = model.run(pairs.clean, [ck.replace(site, value)], [pattern]).cache[pattern]
            expected = ((patched - clean) * gradient * real).sum((1, 2, 3))
            torch.testing.assert_close(scores[:, number], expected, atol=1e-5, rtol=1e-4)
    others = [node.kind not in ("q", "k") for node in found.nodes]
    torch.testing.assert_close(found.per_example[:, others], plain.per_example[:, others], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_grad_drop_averages_runs_whose_layers_are_cut_off_from_the_gradient(name):
    _, model = built(name)
    pairs, layers = drawn_pairs((6, 5)), model.n_layers
    found = scored(name, pairs, "atp*", qk_fix=False)
    sites = [Site("z", 0), Site("v", 1), Site("mlp_out", 1), Site("resid_pre", 0)]
    clean, corrupt = (model.run(each, capture=sites).cache for each in (pairs.clean, pairs.corrupt))
    total = dict.fromkeys(sites, 0.0)
    for dropped in range(layers):
        cut = [Site(kind, layer=dropped) for kind in ("attn_out", "mlp_out")]
        held = model.run(pairs.clean, capture=cut).cache
        # What is put in is what was there, and nothing goes back through it.
        run = model.run(
            pairs.clean, [ck.replace(site, held[site]) for site in cut], sites, logits_at=-1, gradients=True
        )
        sum_lost = lost(run.logits, pairs).sum()
        for site in sites:
            [gradient] = torch.autograd.grad(sum_lost, run.cache[site], retain_graph=True, allow_unused=True)
            # An MLP that is cut off is itself what was put in.
            if gradient is not None and site not in cut:
                mask = run.tokens.mask.view(2, -1, *[1] * (clean[site].ndim - 2))
                total[site] = total[site] + ((corrupt[site] - clean[site]) * gradient * mask).sum((1, -1)).abs()
    for site in sites:
        kind = {"mlp_out": "mlp", "resid_pre": "input"}.get(site.kind, site.kind)
        here = [node.kind == kind and max(0, node.layer) == site.layer for node in found.nodes]
        expected = total[site] / (layers if kind == "input" else layers - 1)
        torch.testing.assert_close(found.per_example[:, here].squeeze(-1), expected, atol=1e-5, rtol=1e-4)
    assert found.convention.magnitudes


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "planted-induction-llama")) for name in planted.names()],
)
def test_plain_attribution_misses_the_planted_saturated_head_and_the_fix_does_not(name):
    planned = planted.build(name)
    model, (layer, head) = ck.Model(planned.model, planned.tokenizer), planned.saturated
    parts = {"q": "subject" if "hop" in name else "query"}
    # The second hop's keys are swapped only where its own facts are, which no corruption of subjects does.
    parts |= {} if "hop" in name else {"k": "subject"}
    for kind, corruption in parts.items():
        pairs = ck.Pairs(*planned.pairs(2, seed=1, length=14, corruption=corruption))
        place = head if kind == "q" else head * model.n_kv_heads(layer) // model.n_heads(layer)
        exact, plain, fixed, starred = (
            attribute_nodes(model, pairs, method=method, progress=False, **settings).map(kind)[layer, place]
            for method, settings in (("exact", {}), ("ap", {}), ("atp*", {"grad_drop": False}), ("atp*", {}))
        )
        assert exact > 5
        assert abs(plain) < 0.1 * exact
        assert 0.8 * exact < fixed < 1.2 * exact
        assert 0.8 * exact < starred < 1.2 * exact


def test_pairs_of_unequal_length_and_batches(monkeypatch):
    pairs = ck.Pairs(["w9 w8 w7 w6", "w9 w5 w7 w6"], ["w9 w20 w21 w7 w6", "w9 w22 w23 w7 w6"], [11, 12], [13, 14])
    by_method = {method: scored("llama", pairs, method, align="common") for method in ("exact", "atp*")}
    for method, whole in by_method.items():
        parts = scored("llama", pairs, method, align="common", batch_size=1)
        torch.testing.assert_close(parts.per_example, whole.per_example, atol=1e-5, rtol=1e-5)
        assert whole["input"] == 0.0 and whole.scores.abs().max() > 1e-3
    monkeypatch.setattr("circuitkit.circuits.attributing.nodes.memory", lambda model, budget: 1)
    again = scored("llama", pairs, "exact", align="common")
    torch.testing.assert_close(again.per_example, by_method["exact"].per_example, atol=1e-5, rtol=1e-5)


def test_kl_needs_the_way_and_magnitudes_are_means_of_magnitudes():
    pairs = drawn_pairs((6, 6))
    with pytest.warns(UserWarning, match='gradient of kl vanishes in the clean run.*method="ap-ig"'):
        assert scored("gpt2", pairs, "ap", metric=metrics.kl).scores.abs().max() < 1e-4
    way = scored("gpt2", pairs, "ap-ig", metric="kl", examples="mean-absolute")
    torch.testing.assert_close(way.scores, way.per_example.abs().mean(0))
    assert way["input"] > 0.1 and way.convention.unit == "nats"


@pytest.mark.parametrize("method", ["ap-ig", "atp*", "exact"])
def test_nodes_are_scored_from_within_inference_mode_but_not_under_interventions(method):
    _, model = built("llama")
    pairs = drawn_pairs((6,))
    with torch.inference_mode():
        found = scored("llama", pairs, method)
    assert torch.equal(found.per_example, scored("llama", pairs, method).per_example)
    assert not found.per_example.is_inference()
    held = pytest.raises(CircuitError, match=r"intervention at mlp_out\[layer=1\] is held")
    with held, model.intervene([ck.zero("mlp_out[layer=1]")]):
        scored("llama", pairs, method)


def test_results_are_saved_and_shown(tmp_path):
    found = scored("llama", drawn_pairs((6, 5)), "ap-ig", steps=2, spans={"end": Span.at(-1)})
    again = NodeScores.load(found.save(tmp_path))
    assert torch.equal(again.per_example, found.per_example) and torch.equal(again.by_span["end"], found.by_span["end"])
    assert again.convention == found.convention and again.provenance == dict(found.provenance)
    table = again.frame
    assert list(table.columns) == ["node", "kind", "layer", "head", "score", "low", "high", "end"]
    assert (table["low"] <= table["score"] + 1e-6).all() and (table["score"] <= table["high"] + 1e-6).all()
    top = found.top(3, by="signed", kinds=("z", "mlp"))
    assert set(top["kind"]) <= {"z", "mlp"} and top["score"].is_monotonic_decreasing
    assert [axes.get_title() for axes in found.plot(("q", "k", "mlp")).figure.axes][:3] == ["queries", "keys", "MLPs"]
    (tmp_path / "node_scores.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="cut short"):
        NodeScores.load(tmp_path)


def test_what_cannot_be_asked_of_nodes():
    pairs = drawn_pairs((6,))
    with pytest.raises(CircuitError, match="no method 'eap' for nodes; the methods are ap, ap-ig"):
        scored("llama", pairs, "eap")
    with pytest.raises(CircuitError, match="examples are joined"):
        scored("llama", pairs, "ap", examples="median")
    with pytest.raises(CircuitError, match="no sign"):
        scored("llama", pairs, "atp*").top(by="signed")
    with pytest.raises(CircuitError, match="there is no node 'a9"):
        scored("llama", pairs, "ap")["a9.h9"]
    with pytest.raises(CircuitError, match="without a gradient"):
        scored("llama", pairs, "ap", metric=lambda logits, targets: logits.argmax(-1).float())
    scores = scored("llama", pairs, "ap")
    with pytest.raises(CircuitError, match="NaN or infinite at input"):
        NodeScores(scores.layout, scores.per_example * math.nan, scores.convention)
    with pytest.raises(CircuitError, match="must be"):
        NodeScores(scores.layout, scores.per_example[:, :3], scores.convention)
