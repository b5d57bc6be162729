"""The executor over many random batches and cells of every architecture: each equals itself run alone."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.metrics import Targets, logit_difference
from circuitkit.model import Tokens
from circuitkit.run.executor import measure

pytestmark = pytest.mark.slow

KINDS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "q", "k", "v", "z", "pattern")
PER_HEAD = ("q", "k", "v", "z", "pattern")


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(architectures.NAMES),
    lengths=st.lists(st.integers(4, 10), min_size=1, max_size=4),
    chosen=st.lists(
        st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(-3, 2)), min_size=1, max_size=2),
        min_size=1,
        max_size=8,
    ),
    seed=st.integers(0, 1000),
)
def test_cells_of_any_batch_equal_themselves_run_alone(name, lengths, chosen, seed):
    hf, _ = architectures.build(name)
    model = ck.Model(hf)
    torch.manual_seed(seed)
    width = max(lengths)
    mask = torch.tensor([[False] * (width - length) + [True] * length for length in lengths])
    tokens = Tokens(torch.randint(5, 90, mask.shape), mask)
    other = Tokens(torch.randint(5, 90, mask.shape), mask)
    kinds = {kind for cell in chosen for kind, layer, _ in cell if layer in model.layers_with(kind)}
    kept = model.run(other, capture=sorted(kinds)).cache if kinds else {}
    cells = []
    for cell in chosen:
        sites = {
            ck.Site(kind, layer=layer, head=0) if kind in PER_HEAD else ck.Site(kind, layer=layer, position=position)
            for kind, layer, position in cell
            if layer in model.layers_with(kind)
        }
        cells.append([ck.replace(site, kept[site]) for site in sorted(sites, key=str)])
    targets = Targets(*torch.randint(5, 90, (2, len(lengths), 1)))
    together = measure(model, tokens, targets, logit_difference, cells, progress=False)
    for cell, values in zip(cells, together, strict=True):
        expected = logit_difference(model.run(tokens, cell, logits_at=-1).logits, targets)
        torch.testing.assert_close(values, expected, atol=2e-5, rtol=1e-5, msg=lambda m, cell=cell: f"{cell}: {m}")
