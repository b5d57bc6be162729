"""The strongest edges, found block by block, are those of the captured pattern."""

import pytest
import torch

import architectures
import circuitkit as ck


@pytest.mark.parametrize("name", ["llama", "mistral", "bloom"])
@pytest.mark.parametrize("first_column", ["zeroed", "kept"])
def test_edges_are_the_strongest_of_the_pattern(name, first_column):
    model = ck.Model(*architectures.build(name))
    prompts = architectures.prompts("left_padded", length=40)
    found = ck.attention.top_edges(
        model, prompts.input_ids, 1, 2, n=20, first_column=first_column, attention_mask=prompts.attention_mask
    )
    cache = model.run(prompts.input_ids, capture=["pattern"], attention_mask=prompts.attention_mask).cache
    for row, real in enumerate(prompts.real):
        pattern = cache["pattern[layer=1, head=2]"][row][real][:, real].clone()
        if first_column == "zeroed":
            pattern[:, 0] = 0
        strongest = pattern.flatten().topk(20).values
        torch.testing.assert_close(found.weights[row], strongest, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(pattern[found.queries[row], found.keys[row]], strongest, atol=1e-6, rtol=1e-5)


def test_a_short_prompt_has_as_many_edges_as_there_are_and_a_picture():
    model = ck.load("deductor-5k")
    found = ck.attention.top_edges(model, ["Fae is bright.", "Every wumpus is a dumpus."], n=50)
    # Four tokens have ten edges, four of them to the first.
    assert (found.queries[0] >= 0).sum() == 6
    assert len(found.frame) == 6 + 15 and (found.frame["query"] >= found.frame["key"]).all()
    axes = found.plot(0)
    assert axes.get_title().startswith("Strongest 6 edges of layer")
    with pytest.raises(ValueError, match="0 edges are none"):
        ck.attention.top_edges(model, "Fae is bright.", n=0)
    with pytest.raises(ValueError, match="'zeroed' or 'kept', not 'dropped'"):
        ck.attention.top_edges(model, "Fae is bright.", first_column="dropped")
    with pytest.raises(ValueError, match="ends outside the 1 tokens"):
        ck.plots.attention_arcs(["a"], torch.tensor([1]), torch.tensor([0]), torch.tensor([0.5]), title="")
