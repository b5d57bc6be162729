"""An evaluation of an embedded model gives the figures of its card, exactly."""

import json
import sys
from pathlib import Path

import pytest

from circuitkit.model import embedded

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.slow
def test_the_cards_figures_come_out_again(monkeypatch):
    if not EXPERIMENTS.exists():
        pytest.skip("the experiments are not installed with the package")
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    from measure_deductors import measure

    folder = embedded.path("deductor-130k")
    assert measure(folder, 100, 200) == json.loads((folder / "accuracy.json").read_text())
    sys.modules.pop("measure_deductors", None)
