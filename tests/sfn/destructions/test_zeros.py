"""What is said to be zero, or the input as it was, is so in tensors that hold numbers, whatever is done to them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit.model.points import first_tensor
from circuitkit.sfn.destructions.passing import removal
from circuitkit.sfn.destructions.zeros import Followed


class Checked(Followed):
    """Follows a forward of real numbers, and holds each thing that it says against them."""

    def __init__(self):
        super().__init__()
        self.said = 0

    def starts(self, stream: Tensor) -> None:
        self.was = stream.clone()
        super().starts(stream)

    def hold(self, value) -> None:
        if not isinstance(value, Tensor):
            return
        if self.is_zero(value):
            self.said += 1
            assert bool((value == 0).all())
        if self.is_input(value):
            self.said += 1
            assert torch.equal(value.flatten(), self.was.flatten().to(value.dtype))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        for each in (*(out if isinstance(out, tuple | list) else [out]), *args):
            self.hold(each)
        return out


@pytest.mark.parametrize("name", architectures.NAMES)
def test_all_that_is_said_of_a_forward_is_so(name):
    model = ck.Model(architectures.build(name)[0], None)
    known, named = Checked(), dict(model.anatomy.root.named_parameters())
    for layer, names in removal(model, range(model.n_layers)).items():
        for each in names:
            known.zeros(named[each].detach().zero_())
        model.anatomy.blocks[layer].block.register_forward_pre_hook(
            lambda module, args, kwargs: known.starts(first_tensor((*args, *kwargs.values()))), with_kwargs=True
        )
    with torch.no_grad(), known:
        model.hf(input_ids=architectures.prompts().input_ids)
    assert known.said > 10 * model.n_layers


# Each takes two tensors; what is done in place is done to the first.
OPERATIONS = {
    "add": torch.add,
    "add twice": lambda a, b: torch.add(a, b, alpha=2),
    "sub": torch.sub,
    "mul": torch.mul,
    "mm": torch.mm,
    "addmm": lambda a, b: torch.addmm(a, b, a),
    "linear": torch.nn.functional.linear,
    "linear with a bias": lambda a, b: torch.nn.functional.linear(a, b, b[0]),
    "layer norm": lambda a, b: torch.nn.functional.layer_norm(a, (3,), bias=b[0]),
    "cat": lambda a, b: torch.cat([a, b])[1:4],
    "stack": lambda a, b: torch.stack([a, b])[1],
    "where": lambda a, b: torch.where(a > 0, a, b),
    "maximum": torch.maximum,
    "divide": lambda a, b: a / (b.abs() + 1),
    "halve": lambda a, b: a / 2,
    "times one": lambda a, b: a * 1.0,
    "plus one": lambda a, b: a + 1,
    "minus nothing": lambda a, b: a - 0,
    "negate": lambda a, b: -a,
    "cosine": lambda a, b: a.cos(),
    "sigmoid": lambda a, b: a.sigmoid(),
    "silu": lambda a, b: torch.nn.functional.silu(a),
    "square": lambda a, b: a**2,
    "to the nothing": lambda a, b: a**0,
    "sum": lambda a, b: a.sum(0, keepdim=True).expand(3, 3),
    "clone": lambda a, b: a.clone(),
    "turn": lambda a, b: a.t(),
    "turned copy": lambda a, b: a.t().contiguous(),
    "flip": lambda a, b: a.flip(0),
    "rounded": lambda a, b: a.to(torch.bfloat16).to(torch.float32),
    "widened": lambda a, b: a.to(torch.float64).to(torch.float32),
    "broadcast": lambda a, b: a[:1] + b,
    "full": lambda a, b: torch.full_like(a, 3.0),
    "zeros": lambda a, b: torch.zeros_like(a),
    "embedding": lambda a, b: torch.nn.functional.embedding(torch.tensor([2, 0, 1]), a),
    "masked": lambda a, b: a.masked_fill(b > 0, 0.0),
    "masked with ones": lambda a, b: a.masked_fill(b > 0, 1.0),
    "scattered": lambda a, b: a.scatter(0, torch.tensor([[0, 1, 2]]), b),
    "index added": lambda a, b: a.index_add(0, torch.tensor([2, 0]), b[:2]),
    "add in place": lambda a, b: a.add_(b),
    "multiply in place": lambda a, b: a.mul_(b),
    "copy in place": lambda a, b: a.copy_(b),
    "copy a row": lambda a, b: a[1].copy_(b[1]).expand(3, 3),
    "add to a row": lambda a, b: a[1].add_(b[0]).expand(3, 3),
    "fill a row": lambda a, b: a[2].fill_(2.0).expand(3, 3),
    "empty": lambda a, b: a.zero_(),
    "empty a row": lambda a, b: a[0].zero_().expand(3, 3),
    "put": lambda a, b: a.index_put_((torch.tensor([1]),), b[:1]),
    "into another": lambda a, b: torch.mul(b, b, out=a),
    "many in place": lambda a, b: (torch._foreach_add_([a], [b]), a)[1],
}


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 30), st.integers(0, 30))))
def test_whatever_is_done_what_is_said_is_so(steps):
    generator = torch.Generator().manual_seed(len(steps))
    held = [torch.zeros(3, 3), torch.randn(3, 3, generator=generator), torch.randn(3, 3, generator=generator)]
    known = Checked()
    known.zeros(held[0])
    known.starts(held[1])
    for name, a, b in steps:
        with torch.no_grad(), known:
            try:
                held.append(OPERATIONS[name](held[a % len(held)], held[b % len(held)]))
            except RuntimeError as error:
                assert "more than one element" in str(error) or "overlap" in str(error) or "single memory" in str(error)
        if not all(bool(each.isfinite().all()) for each in held):
            return
        for each in held:
            known.hold(each)


POLES = {
    "one by nothing": lambda zero, one: one / zero,
    "reciprocal": lambda zero, one: zero.reciprocal(),
    "rsqrt": lambda zero, one: zero.rsqrt(),
    "log": lambda zero, one: zero.log(),
    "power": lambda zero, one: zero**-1,
    "in place": lambda zero, one: one.div_(zero),
    "and on": lambda zero, one: torch.cat([one, (one * zero.rsqrt()).neg()])[3:],
}


@pytest.mark.parametrize("pole", POLES)
def test_nothing_times_the_infinite_is_not_said_to_be_nothing(pole):
    known, zero, one = Checked(), torch.zeros(3, 3), torch.ones(3, 3)
    known.zeros(zero)
    with torch.no_grad(), known:
        for infinite in (POLES[pole](zero, one),):
            assert not known.is_zero(infinite)
            assert not known.is_zero(zero * infinite) and not known.is_zero(zero @ infinite)
