"""The page on attention scores prints what stands in it."""

import contextlib
import io
import json
import re
from pathlib import Path

import pandas as pd

import circuitkit as ck

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attention_scores.md").read_text(encoding="utf-8")


def test_the_pages_examples_print_what_stands_below_them():
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == PAGE.count("```python") == 4
    names: dict[str, object] = {}
    for code, printed in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        assert out.getvalue().split() == printed.split()


def published(name: str) -> pd.DataFrame:
    models = json.loads((ROOT / "experiments" / "published" / f"{name}.json").read_text(encoding="utf-8"))["models"]
    return pd.DataFrame(models).set_index("model")


def test_the_pages_figures_are_those_of_the_published_tables():
    scores, accuracy = published("attention_scores"), pd.concat([published("prontoqa"), published("revision")])
    rules = list(ck.tasks.prontoqa.RULES)
    known = accuracy[rules].dropna().mean(axis=1)
    table = scores[["family"]].assign(score=scores[rules].mean(axis=1), accuracy=known)
    found = ck.attention.against_accuracy(table).set_index("models_of")
    said = " ".join(PAGE[PAGE.index("**Family") : PAGE.index("**The first token")].split()).replace("\u2212", "-")
    assert len(table) == 24 and f"Over the {len(table)} models" in said
    for name, words in (
        ("all", "\u03c1 is {correlation:.2f} (permutation p = {p:.2f})"),
        ("within families", "it is {correlation:.2f} (p = {p:.2f})"),
        *((family, "{correlation:.2f} in " + family) for family in ("GPT-2", "SmolLM2", "Qwen2.5")),
    ):
        assert words.format(**found.loc[name].to_dict()) in said
    assert len(found) == 5 and found["p"].min() > 0.05
    for model, words in (("Qwen2.5-3B", "Qwen2.5-3B scores {:.2f} at {:.1f} %"), ("gpt2", "GPT-2 {:.2f} at {:.1f} %")):
        assert words.format(*table.loc[model, ["score", "accuracy"]]) in said
