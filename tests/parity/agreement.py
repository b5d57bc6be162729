"""What agreement means: equal on real tokens to 1e-5 of the tensor's scale, hidden keys hidden in both."""

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

import architectures
from circuitkit import Cache, Model
from oracles import HIDDEN, Captures, kinds_of, transformers_eager

TOLERANCE = 1e-5


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@cache
def reference(name: str, batch: str) -> Captures:
    prompts = architectures.prompts(batch)
    return transformers_eager.capture(model_of(name).hf, prompts.input_ids, prompts.attention_mask)


def kinds_at_sites(name: str) -> list[str]:
    """The site kinds that an architecture has, which must all be there."""
    return sorted(kinds_of(name) - {"logits"})


def captured(cache: Cache, logits: Tensor | None = None) -> Captures:
    """A cache by the references' keys."""
    found: Captures = {(site.kind, site.layer): cache[site] for site in cache}
    return found if logits is None else {**found, ("logits", None): logits}


def assert_close(found: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape, f"{what}: {list(found.shape)} for {list(expected.shape)}"
    hidden = expected <= HIDDEN
    assert torch.equal(found <= HIDDEN, hidden), f"{what}: other keys are hidden"
    found, expected = found.masked_fill(hidden, 0.0), expected.masked_fill(hidden, 0.0)
    worst = (found - expected).abs().max().item() if expected.numel() else 0.0
    assert worst <= tolerance * max(1.0, expected.abs().max().item()), f"{what}: off by {worst:.1e}"


def assert_agree(
    found: Captures, expected: Captures, real: Tensor, kinds: Iterable[str], shifted: bool = False
) -> None:
    """Every value of these kinds that the reference has is there and agrees; `shifted`, scores up to a constant."""
    wanted = {key for key in expected if key[0] in set(kinds)}
    assert wanted and wanted <= set(found), f"missing: {sorted(map(str, wanted - set(found)))}"
    for kind, layer in sorted(wanted, key=str):
        pair = [captures[kind, layer] for captures in (found, expected)]
        if kind in ("scores", "pattern"):
            pair = [value.transpose(1, 2) for value in pair]
        pair = [value[real] for value in pair]
        if kind == "scores" and shifted:
            pair = [rows - rows.amax(-1, keepdim=True) for rows in pair]
            pair = [rows.masked_fill(rows < HIDDEN / 2, 10 * HIDDEN) for rows in pair]
        assert_close(pair[0], pair[1], f"{kind} of layer {layer}")
