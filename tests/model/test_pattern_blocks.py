"""A call's mask and pattern, made for some queries, are those rows of the whole."""

import pytest
import torch

import architectures
from circuitkit.model.attention import AttentionCall, AttentionTap, tapped
from circuitkit.model.pattern_blocks import block_tap
from circuitkit.model.points import Point

ROWS = range(3, 7)


def masks() -> dict[str, tuple[torch.Tensor | None, bool, int | None]]:
    """A mask as an attention function is handed it, whether none means causal, and the window."""
    real = torch.ones(2, 9, dtype=torch.long)
    real[1, :4] = 0
    whole = torch.ones(9, 9, dtype=torch.bool).tril() & real.bool()[:, None, None]
    return {
        "none, causal": (None, True, None),
        "none, all": (None, False, None),
        "of tokens": (real, True, None),
        "of tokens, windowed": (real, True, 3),
        "true and false": (whole, True, None),
        "added": (torch.zeros(2, 1, 9, 9).masked_fill(~whole, -torch.inf), True, None),
        "the same for all queries": (whole[:, :, -1:], True, None),
    }


@pytest.mark.parametrize("kind", masks())
def test_a_mask_of_some_rows_is_a_part_of_the_whole(kind):
    mask, is_causal, window = masks()[kind]
    query = torch.randn(2, 4, 9, 8)
    settings = {} if window is None else {"sliding_window": window}
    call = AttentionCall(torch.nn.Identity(), print, query, query, query, mask, is_causal, settings)
    whole, some = call.explicit_mask(), call.explicit_mask(ROWS)
    if whole is None or some is None:
        assert whole is some is None
        return
    expected = whole if whole.shape[-2] == 1 else whole[..., ROWS.start : ROWS.stop, :]
    assert torch.equal(some, expected)


def test_a_setting_for_every_query_and_key_is_not_cut_into_blocks():
    hf, _ = architectures.build("llama")
    module, seen = hf.model.layers[1].self_attn, []
    query = torch.randn(1, 4, 40, 8)
    assert AttentionCall(module, print, query, query, query, None, True, {"scaling": 0.5}).by_rows
    bias = {"position_bias": torch.zeros(1, 4, 40, 40)}
    assert not AttentionCall(module, print, query, query, query, None, True, bias).by_rows
    ids = architectures.prompts(length=40).input_ids
    tap = block_tap(Point(module, "output"), lambda blocks: seen.extend(block.weights for block in blocks))
    whole: list[torch.Tensor] = []
    with tapped([AttentionTap(module, lambda scores: None, lambda pattern: whole.append(pattern.clone()))]):
        hf(input_ids=ids)
    with tapped([tap]):
        before = len(seen)
        hf(input_ids=ids)
    assert len(seen) - before == 3 and [block.shape[-1] for block in seen] == [16, 32, 40]
    for block, start in zip(seen, (0, 16, 32), strict=True):
        rows = whole[0][:, :, start : start + block.shape[2]]
        torch.testing.assert_close(block, rows[..., : block.shape[-1]], atol=1e-6, rtol=1e-5)
        assert not rows[..., block.shape[-1] :].any()
