import pytest
import torch
from architectures import build, prompts
from circuits.attributing import brute_force

import circuitkit as ck


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "gemma2", "gpt_neox", "falcon_multi_query", "olmo2"])
@pytest.mark.parametrize("rule", ["left"])
def test_scores_are_those_of_a_copy_per_destination(name, rule):
    hf, words = build(name)
    model = ck.Model(hf, words)
    clean, corrupt = prompts("left_padded", batch=2, length=7), prompts("left_padded", batch=2, length=7, seed=1)
    answer = torch.tensor([[5], [9]])
    distractor = torch.tensor([[7], [3]])
    pairs = ck.Pairs(clean.texts, corrupt.texts, answer=answer, distractor=distractor)

    def metric(logits):
        return (logits[:, -1].gather(-1, answer) - logits[:, -1].gather(-1, distractor))[:, 0]

    alphas = {"left": [0, 0.5]}[rule]
    expected = brute_force.edge_scores(
        hf, name, (clean.input_ids, clean.attention_mask), (corrupt.input_ids, corrupt.attention_mask), metric, alphas
    )
    graph = ck.circuits.attribute(model, pairs, method="eap-ig", steps=2, rule=rule, progress=False)
    torch.testing.assert_close(graph.per_example, expected, atol=1e-5, rtol=1e-5)
