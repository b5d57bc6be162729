"""Where nothing is to be found, sweeps find something in about one study of twenty, and not more.

Answer and distractor of every pair change places at random, so that a cell's effect on their difference is as likely
positive as negative, whatever the weights: the null hypothesis of the sign-flip test holds exactly, jointly over all
cells. Of 100 draws with a chance of 5 % each, more than 13 have a significant cell once in 2,000 times.
"""

from collections.abc import Callable

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import architectures
import circuitkit as ck
from circuitkit.results import Result

pytestmark = pytest.mark.slow

DRAWS, ALLOWED, N_PAIRS = 100, 13, 10
CONFIG = LlamaConfig(
    **{**architectures.DECODER, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2},
    attn_implementation="eager",
)


def drawn(seed: int) -> tuple[ck.Model, ck.Pairs]:
    """A model of random weights, and pairs whose answer and distractor are shuffled."""
    hf = LlamaForCausalLM(CONFIG).eval()
    architectures.randomise(hf, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    clean, corrupt = torch.randint(5, architectures.VOCABULARY, (2, N_PAIRS, 5), generator=generator)
    # Two tokens stand for all answers, so that only the shuffling tells the pairs apart.
    labels = torch.tensor([[7, 8]]).expand(N_PAIRS, 2)
    shuffled = torch.rand(N_PAIRS, 2, generator=generator).argsort(-1)
    labels = labels.gather(1, shuffled)
    return ck.Model(hf), ck.Pairs(clean, corrupt, labels[:, 0], labels[:, 1])


STUDIES: dict[str, Callable[[ck.Model, ck.Pairs], Result]] = {
    "patched heads": lambda model, pairs: ck.patching.sweep(model, pairs, over="z", progress=False),
    "patched stream": lambda model, pairs: ck.patching.sweep(model, pairs, direction="noise", progress=False),
    "direct effects": lambda model, pairs: ck.patching.direct_effects(model, pairs, progress=False),
    "ablated heads": lambda model, pairs: ck.ablation.sweep(model, pairs, how="mean", progress=False),
}


@pytest.mark.parametrize("study", STUDIES)
def test_few_studies_of_nothing_have_a_significant_cell(study):
    results = [STUDIES[study](*drawn(seed)) for seed in range(DRAWS)]
    assert sum(bool(result.significant.any()) for result in results) <= ALLOWED
    # Without the correction most have one, so that it is the correction that is tried.
    assert sum(bool((result.frame["p"] < 0.05).any()) for result in results) > ALLOWED
    assert all(result.effects.abs().max() > 1e-3 for result in results)


@pytest.mark.parametrize("study", STUDIES)
def test_the_same_studies_find_what_is_there(study):
    """Labels put so that the strongest cell moves every pair one way, and the test has to see it."""
    found = 0
    for seed in range(20):
        model, pairs = drawn(seed)
        result = STUDIES[study](model, pairs)
        signs = result.effects_per_example.flatten(0, -2)[result.effects.abs().flatten().argmax()] > 0
        answer = torch.where(signs, pairs.answer, pairs.distractor)
        distractor = torch.where(signs, pairs.distractor, pairs.answer)
        found += bool(STUDIES[study](model, ck.Pairs(pairs.clean, pairs.corrupt, answer, distractor)).significant.any())
    assert found > 5
