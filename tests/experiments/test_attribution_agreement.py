"""Every method of attribution against exact patching, on the smallest embedded model."""

import json

import attribution_agreement
import pandas as pd


def test_it_writes_a_row_a_method_and_measure(tmp_path):
    attribution_agreement.main(out=tmp_path, models=("deductor-5k",), pairs=3, progress=False)
    table = pd.read_csv(tmp_path / "agreement.csv")
    assert set(table["method"]) == set(attribution_agreement.WAYS) and set(table["examples"]) == {3}
    ranks = table[table["measure"] == "rank correlation of magnitudes"]
    assert len(ranks) == len(attribution_agreement.WAYS) and ranks["value"].min() > 0.3
    assert ((ranks["low"] <= ranks["high"]) & (ranks["high"] <= 1)).all()
    assert json.loads((tmp_path / "provenance.json").read_text())["study"] == "attribution_agreement"
