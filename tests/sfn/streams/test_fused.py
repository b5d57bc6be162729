"""Which rows are q, k, v, gate and up: against what the model's own code makes of them as it runs."""

import pytest
import torch

import circuitkit as ck
from circuitkit.model.points import Point
from circuitkit.sfn import Part, SelectionError, live_parts, select
from sfn.toys import NAMES, ids, model

LAYER = 1
FUSED = (
    *("gpt2", "phi3", "gpt_neox", "bloom", "falcon", "falcon_multi_query", "falcon_multi_head", "openelm_style"),
    *("gpt_bigcode", "gpt_bigcode_multi_head", "mpt", "glm", "glm4", "mixtral", "gpt_oss", "qwen2_moe"),
)
PROBED = [name if name in FUSED else pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name != "codegen"]
KINDS = {"q_proj": "q", "k_proj": "k", "v_proj": "v"}
UNGATED = (
    *(
        "gpt2",
        "gpt_neox",
        "gpt_neox_sequential",
        "bloom",
        "falcon",
        "falcon_multi_query",
        "falcon_multi_head",
        "codegen",
    ),
    *("gpt_bigcode", "gpt_bigcode_multi_head", "mpt", "gptj", "opt"),
)
GATED = [name if name in FUSED else pytest.param(name, marks=pytest.mark.slow) for name in NAMES if name not in UNGATED]


def captured(model: ck.Model) -> dict[str, torch.Tensor]:
    """What the projections of a layer put out, `[batch, position, head, d_head]`, where the probe says that it is."""
    layer = model.layers[LAYER]
    seen: dict[str, torch.Tensor] = {}

    def see(kind: str, point: Point):
        return point.module.register_forward_hook(
            lambda module, args, output: seen.update({kind: point.view.read(output).clone()})
        )

    hooks = [see(kind, layer.points[kind]) for kind in KINDS.values()]
    model.hf(input_ids=ids())
    for hook in hooks:
        hook.remove()
    return seen


def of_layer(model: ck.Model, role: str, *, bias: bool = False) -> list[Part]:
    return [part for part in live_parts(model) if part.layer == LAYER and role in part.roles and part.bias == bias]


def change(model: ck.Model, part: Part) -> torch.Tensor:
    """Put random numbers in a part's place, and give what was there."""
    home = model.anatomy.root.get_parameter(part.tensor).data
    before = part.take(home).clone()
    part.put(home, torch.randn(part.shape, generator=torch.Generator().manual_seed(7)))
    return before


@pytest.mark.parametrize("architecture", PROBED)
@pytest.mark.parametrize("role", KINDS)
def test_a_projection_s_rows_are_what_the_model_computes_it_from(architecture, role):
    toy = model(architecture)
    assert set(KINDS.values()) <= set(toy.layers[LAYER].points)
    before = captured(toy)
    parts = [*of_layer(toy, role), *of_layer(toy, role, bias=True)]
    assert parts
    for part in parts:
        assert part.roles == (role,)
        kept = change(toy, part)
        after = captured(toy)
        assert [kind for kind in before if not torch.equal(before[kind], after[kind])] == [KINDS[role]]
        part.put(toy.anatomy.root.get_parameter(part.tensor).data, kept)
        assert all(torch.equal(before[kind], found) for kind, found in captured(toy).items())


@pytest.mark.parametrize("architecture", PROBED)
@pytest.mark.parametrize("role", KINDS)
def test_a_head_s_rows_are_those_of_that_head(architecture, role):
    toy = model(architecture)
    before = captured(toy)[KINDS[role]]
    for part in (*of_layer(toy, role), *of_layer(toy, role, bias=True)):
        assert part.heads == before.shape[2]
        for head in range(part.heads):
            kept = change(toy, part.head(head))
            after = captured(toy)[KINDS[role]]
            assert [at for at in range(part.heads) if not torch.equal(before[:, :, at], after[:, :, at])] == [head]
            part.head(head).put(toy.anatomy.root.get_parameter(part.tensor).data, kept)


@pytest.mark.parametrize("architecture", PROBED)
def test_a_head_s_columns_of_o_are_what_reads_that_head(architecture):
    toy = model(architecture)
    (part,) = of_layer(toy, "o_proj")
    assert part.heads == toy.n_heads(LAYER)
    home = toy.anatomy.root.get_parameter(part.tensor).data
    for head in range(part.heads):
        expected = toy.run(ids(), [ck.zero(ck.Site("z", layer=LAYER, head=head))]).logits
        kept = part.head(head).take(home).clone()
        part.head(head).put(home, torch.zeros_like(kept))
        assert torch.allclose(toy.run(ids()).logits, expected, atol=1e-5)
        part.head(head).put(home, kept)


@pytest.mark.parametrize("architecture", GATED)
def test_an_mlp_is_affine_in_up_and_not_in_gate(architecture):
    """Its output is `act(gate) · up`, or `(up + 1) · act(gate)`: so halving up takes half of what removing it takes."""
    toy = model(architecture)

    def bend(role: str) -> float:
        parts = [*of_layer(toy, role), *of_layer(toy, role, bias=True)]
        assert all(part.roles == (role,) for part in parts)
        found = [scaled(toy, parts, factor) for factor in (0.0, 0.5, 1.0)]
        return float((found[2] - 2 * found[1] + found[0]).abs().max() / (found[2] - found[0]).abs().max())

    assert bend("up_proj") < 1e-4
    assert bend("gate_proj") > 1e-2


def scaled(toy: ck.Model, parts: list[Part], factor: float) -> torch.Tensor:
    """What the MLP of a layer puts out where parts of it are multiplied."""
    homes = {part.tensor: toy.anatomy.root.get_parameter(part.tensor).data for part in parts}
    before = {name: home.clone() for name, home in homes.items()}
    for part in parts:
        part.put(homes[part.tensor], factor * part.take(homes[part.tensor]).clone())
    mlp = toy.anatomy.blocks[LAYER].mlp
    torch.manual_seed(3)
    stream = torch.randn(2, 5, toy.d_model)
    output = mlp(stream)
    for name, home in homes.items():
        home.copy_(before[name])
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("architecture", UNGATED)
def test_an_mlp_without_gate_has_none(architecture):
    assert "gate_proj" not in {role for part in live_parts(model(architecture)) for role in part.roles}


@pytest.mark.parametrize("role", KINDS)
def test_codegen_s_rows_are_what_its_attention_splits_into_heads(monkeypatch, role):
    toy = model("codegen")
    attention = type(toy.anatomy.blocks[LAYER].attn)
    split, seen = attention._split_heads, []

    def see(self, *args, **settings):
        seen.append(split(self, *args, **settings).clone())
        return seen[-1]

    monkeypatch.setattr(attention, "_split_heads", see)

    def heads() -> list[torch.Tensor]:
        seen.clear()
        toy.hf(input_ids=ids())
        return seen[3 * LAYER : 3 * LAYER + 3]

    # Its code splits query, key and value, in this order.
    before, which = heads(), list(KINDS).index(role)
    (part,) = of_layer(toy, role)
    for head in range(toy.config.num_attention_heads):
        kept = change(toy, part.head(head))
        after = heads()
        changed = [
            (kind, at)
            for kind in range(3)
            for at in range(before[kind].shape[2])
            if not torch.equal(before[kind][:, :, at], after[kind][:, :, at])
        ]
        assert changed == [(which, head)]
        part.head(head).put(toy.anatomy.root.get_parameter(part.tensor).data, kept)


def test_a_layout_that_is_not_known_is_to_be_had_whole_only():
    toy = model("gpt_neox")
    for block in toy.anatomy.blocks:
        block.attn.__class__ = type("AnotherAttention", (torch.nn.Module,), dict(vars(type(block.attn))))
    parts = live_parts(toy)
    fused = [part for part in parts if "q_proj" in part.roles]
    assert all(part.roles == ("q_proj", "k_proj", "v_proj") and part.heads is None for part in fused)
    told = "fused in a layout that is not known for this architecture: name k_proj and v_proj too, or none of them"
    with pytest.raises(SelectionError, match=told):
        select(parts, ["q_proj"], biases=False, name="toy")
    assert len(select(parts, ["q_proj", "k_proj", "v_proj"], biases=True, name="toy")) == len(fused)
