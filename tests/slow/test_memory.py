"""A thousand cells on a deep model take no more memory than a plain forward of the prompts, and the budget."""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

import circuitkit as ck
from circuitkit.metrics import Targets, logit_difference
from circuitkit.run.executor import measure

pytestmark = pytest.mark.slow

LAYERS, HEADS, LENGTH, PROMPTS, CELLS = 24, 4, 32, 4, 1000
VOCABULARY = 4096
MIB = 2**20


def deep_model() -> ck.Model:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=64,
    )
    return ck.Model(LlamaForCausalLM(config).eval().requires_grad_(False))


def a_thousand_cells(model: ck.Model, clean: torch.Tensor) -> list:
    """Every layer x position of the stream, every head, and MLPs at the last position."""
    kept = model.run(clean, capture=["resid_pre", "z", "mlp_out"]).cache
    sites = [ck.Site("resid_pre", layer=layer, position=at) for layer in range(LAYERS) for at in range(LENGTH)]
    sites += [ck.Site("z", layer=layer, head=head) for layer in range(LAYERS) for head in range(HEADS)]
    sites += [ck.Site("mlp_out", layer=layer, position=at) for layer in range(LAYERS) for at in range(-6, 0)]
    return [[ck.replace(site, kept[site])] for site in sites[:CELLS]]


def peak(run, folder) -> int:
    """Bytes that a call holds at most of what torch's allocator gives out, which no other work disturbs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    changes = sorted(
        (event["ts"], event["args"]["Ev Idx"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]"
    )
    assert changes, "the profiler saw no allocation"
    held = most = 0
    for *_, change in changes:
        held += change
        most = max(most, held)
    return most


def test_the_peak_of_known_allocations_is_seen(tmp_path):
    def known():
        first = torch.zeros(MIB)
        second = torch.zeros(2 * MIB)
        del first
        return second[:1] + torch.zeros(MIB)[:1]

    assert peak(known, tmp_path) == pytest.approx(4 * 3 * MIB, rel=0.01)


def test_a_thousand_cells_stay_within_the_plain_forward_and_the_budget(tmp_path):
    model = deep_model()
    generator = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randint(5, VOCABULARY, (2, PROMPTS, LENGTH), generator=generator)
    cells = a_thousand_cells(model, clean)
    assert len(cells) == CELLS
    tokens, targets, budget = model.tokens(corrupt), Targets(corrupt[:, :1], corrupt[:, 1:2]), 16 * MIB

    def sweep(some: list) -> torch.Tensor:
        return measure(model, tokens, targets, logit_difference, some, progress=False, budget=budget)

    # Shortcuts are tried at a model's first use.
    sweep(cells[-1:])
    with torch.inference_mode():
        plain = peak(lambda: model.hf(input_ids=corrupt, use_cache=False), tmp_path)
    swept = peak(lambda: sweep(cells), tmp_path)
    assert swept <= plain + budget, f"{swept / MIB:.1f} MiB, of {plain / MIB:.1f} and {budget / MIB:.0f}"
