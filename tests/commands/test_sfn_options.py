"""Words that name layers and heads of `circuitkit sfn`."""

import pytest

from circuitkit.commands.sfn.options import What, heads_of, layers_of


def test_layers_are_numbers_and_ranges_with_both_ends() -> None:
    assert layers_of(["0", "5-7", "9-9", "-2"]) == [0, 5, 6, 7, 9, -2]
    assert layers_of(None) is None and heads_of(None) is None
    assert What(["o_proj"], heads=["0.3", "12.10"]).chosen() == {
        "modules": ["o_proj"],
        "layers": None,
        "heads": [(0, 3), (12, 10)],
    }


@pytest.mark.parametrize("word", ["7-5", "-3-2", "a", "1.5", "5-", "--1", ""])
def test_a_layer_that_is_not_so_written_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="such as 5-29, not"):
        layers_of([word])
