"""Which nodes and edges a decoder's graph has."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.circuits import CircuitError, Convention, Layout

layouts = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.booleans()).map(lambda each: (each[0] * each[1], *each[1:])),
    min_size=1,
    max_size=4,
).map(lambda layers: Layout(*(tuple(column) for column in zip(*layers, strict=True))))


def test_gpt2_has_the_published_number_of_edges():
    layout = Layout((12,) * 12, (12,) * 12, (False,) * 12)
    assert (len(layout.nodes), len(layout.sources), len(layout.destinations)) == (158, 157, 445)
    assert layout.n_edges == 32_491


@given(layouts)
def test_a_node_reads_what_was_written_before_it(layout):
    order = {name: step for step, name in enumerate(layout.nodes)}
    written_in = {name: layout.layer_and_head(name) for name in layout.sources[1:]}
    inputs = {name: layout.inputs_of(name) for name in layout.nodes}
    for column, destination in enumerate(layout.destinations):
        readers = [name for name in layout.nodes if column in inputs[name]]
        assert readers
        for row, source in enumerate(layout.sources):
            together = source in written_in and any(
                reader in written_in and written_in[reader][0] == written_in[source][0] for reader in readers
            )
            to_mlp = destination.startswith("m")
            layer = written_in[source][0] if source in written_in else None
            allowed = to_mlp and not source.startswith("m") and layer is not None and not layout.parallel[layer]
            before = all(order[source] < order[reader] for reader in readers)
            assert bool(layout.reach[row, column]) == (before and (not together or allowed))


@given(layouts)
def test_places_and_names_agree(layout):
    for layer in range(layout.n_layers):
        names = layout.destinations[layout.attention_at(layer)] + (layout.destinations[layout.mlp_input_at(layer)],)
        assert all(name.startswith((f"a{layer}.", f"m{layer}")) for name in names)
        assert layout.sources[layout.mlp_at(layer)] == f"m{layer}"
    assert [layout.source(name) for name in layout.sources] == list(range(len(layout.sources)))
    assert [layout.destination(name) for name in layout.destinations] == list(range(len(layout.destinations)))
    assert all(
        layout.reads[row].nonzero().flatten().tolist() == sorted(layout.inputs_of(name))
        for row, name in enumerate(layout.sources)
    )


def test_heads_of_a_group_read_by_one_key_and_value():
    layout = Layout((4,), (2,), (False,))
    assert layout.inputs_of("a0.h1")[1:] == layout.inputs_of("a0.h0")[1:] != layout.inputs_of("a0.h2")[1:]


def test_what_is_not_there_is_named_with_what_is_near():
    layout = Layout((2,), (2,), (False,))
    with pytest.raises(CircuitError, match=r"no source 'a0\.h2'.*a0\.h1"):
        layout.source("a0.h2")
    with pytest.raises(CircuitError, match=r"no destination 'a0\.h0'"):
        layout.destination("a0.h0")
    with pytest.raises(CircuitError, match="3 heads and 2 key/value heads"):
        Layout((3,), (2,), (False,))
    with pytest.raises(CircuitError, match="1, 2 and 1 layers"):
        Layout((3,), (3, 3), (False,))


def test_a_decoder_without_heads_to_tell_apart_is_refused(monkeypatch):
    model = ck.load("deductor-5k")
    monkeypatch.setitem(model.layers[0].refusals, "z", "fused away")
    monkeypatch.delitem(model.layers[0].points, "z")
    with pytest.raises(CircuitError, match=r"layer 0 has no z \(fused away\)"):
        Layout.of(model)


def test_what_helps_is_told_by_metric_and_sign():
    scores = torch.tensor([2.0, -1.0])
    assert torch.equal(Convention("eap", "logit_difference").helpful(scores), scores)
    assert torch.equal(Convention("eap", "kl", higher_is_better=False).helpful(scores), -scores)
    raises = Convention("eap", "logit_difference", positive="corrupting raises the metric")
    assert torch.equal(raises.strengths(scores, "signed"), -scores)
    assert torch.equal(raises.strengths(scores, "absolute"), scores.abs())


@pytest.mark.parametrize(
    ("convention", "by", "told"),
    [
        (Convention("file", "?", positive="unknown"), "signed", "not known"),
        (Convention("eap", "kl", examples="mean-absolute"), "signed", "magnitudes"),
        (Convention("eap", "kl"), "size", "not 'size'"),
    ],
)
def test_a_sign_that_nobody_knows_is_not_used(convention, by, told):
    with pytest.raises(CircuitError, match=told):
        convention.strengths(torch.ones(1), by)


@pytest.mark.parametrize(
    "wrong", [{"positive": "helps"}, {"rule": "middle"}, {"examples": "median"}, {"positions": "mean"}]
)
def test_a_convention_says_what_is_understood(wrong):
    [(name, said)] = wrong.items()
    with pytest.raises(CircuitError, match=f"{name} of a convention is .*, not '{said}'"):
        Convention("eap", "logit_difference", **wrong)
