"""Baselines: the runs without any cell go the way through attention that the cells go."""

from __future__ import annotations

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.metrics import Targets
from circuitkit.study import Study


@pytest.fixture(scope="module")
def half() -> ck.Model:
    hf, _ = architectures.build("llama")
    return ck.Model(hf.to(torch.bfloat16).eval())


@pytest.fixture(scope="module")
def pairs() -> ck.Pairs:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(5, 60, (4, 12), generator=generator)
    corrupt = clean.clone()
    corrupt[:, 2] = (clean[:, 2] + 7) % 50 + 5
    return ck.Pairs(clean.tolist(), corrupt.tolist(), [[5], [6], [7], [8]], [[9], [10], [11], [12]])


@pytest.mark.parametrize("metric", ["logit_difference", "kl"])
def test_forcing_what_is_there_anyway_has_no_effect_in_half_precision(
    half: ck.Model, pairs: ck.Pairs, metric: str
) -> None:
    # The first token attends to itself alone, whatever is forced.
    first = {"first": ck.Span.at(0)}
    for per in ("model", "layer"):
        result = ck.attention.edges(half, pairs, first, metric, how="force", per=per, progress=False)
        assert result.effects_per_example.count_nonzero() == 0
        assert metric != "kl" or result.baseline.clean.count_nonzero() == 0


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("over", ["pattern", "scores", "z"])
def test_the_clean_run_diverges_by_nothing_from_itself(
    half: ck.Model, pairs: ck.Pairs, over: str, direction: str
) -> None:
    result = ck.patching.sweep(half, pairs, over=over, metric="kl", direction=direction, progress=False)
    assert result.baseline.clean.count_nonzero() == 0
    assert result.baseline.corrupt is not None
    assert bool((result.baseline.corrupt > 0).all())
    assert bool((result.effects_per_example != 0).any())


def test_transplants_and_edges_have_one_baseline_in_half_precision(half: ck.Model, pairs: ck.Pairs) -> None:
    cut = ck.attention.edges(half, pairs, {"last": ck.Span.at(-1)}, "logit_difference", progress=False)
    moved = ck.attention.transplant(half, pairs, queries=[-1], keys=[0], heads=0, direction="noise", progress=False)
    assert torch.equal(cut.baseline.clean, moved.baseline.clean)


def test_a_study_without_cells_has_the_baselines_of_plain_runs(pairs: ck.Pairs) -> None:
    model = ck.Model(architectures.build("llama")[0].eval())
    study = Study.of_pairs(model, pairs.on(model), "logit_difference", "denoise")
    for prompts, measured in ((pairs.clean, study.baseline.clean), (pairs.corrupt, study.baseline.corrupt)):
        logits = model.run(torch.tensor(prompts), logits_at=-1).logits
        assert measured is not None
        torch.testing.assert_close(measured, logits[range(4), range(5, 9)] - logits[range(4), range(9, 13)])


def test_cells_that_go_another_way_are_refused(half: ck.Model, pairs: ck.Pairs) -> None:
    tokens = half.tokens(pairs.clean)
    study = Study.of(half, tokens, Targets(torch.tensor([[5], [6], [7], [8]])), "probability", "ablate")
    study.measured([[ck.knockout(0)], [ck.scale("pattern[layer=1]", 0.5)]], "", progress=False)
    with pytest.raises(ValueError, match="measure them together"):
        study.measured([[ck.knockout(1)]], "", progress=False)
