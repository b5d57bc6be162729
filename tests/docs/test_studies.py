"""The pages of studies have what a reader looks for, and every picture of the documentation is shown and small."""

import re

import pytest
from PIL import Image

from pages import DOCS

IMAGES = sorted((DOCS / "images").iterdir())
TEXTS = {path: path.read_text(encoding="utf-8") for path in (*DOCS.rglob("*.md"), DOCS.parent / "README.md")}
STUDIES = [name for name in re.findall(r"\]\((\w+)\.md\)", TEXTS[DOCS / "studies.md"]) if name != "levels"]
HEADINGS = (
    "What the paper did",
    "What is different here, and why",
    "What came out",
    "What is a toy, and what is not",
)
KEPT = {
    "attention_causality": ("read/",),
    "architecture": ("read/",),
    "elicitation": ("read/",),
    "emergent_heads": ("cohorts/", "plan.json"),
    "finetuning": ("read/",),
    "thresholds": ("fits/",),
    "training_dynamics": ("cohorts/", "plan.json"),
    "who_reasons": ("levels_of_merges.json", "levels_of_destructions.json"),
}


def test_every_study_has_a_page() -> None:
    assert sorted(set(STUDIES)) == sorted(KEPT)


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_study_s_page_says_the_four_things_in_order_and_shows_its_figures(name: str) -> None:
    text = TEXTS[DOCS / f"{name}.md"]
    assert [head for head in re.findall(r"^## (.+)$", text, flags=re.MULTILINE) if head in HEADINGS] == list(HEADINGS)
    came_out = text.split(f"## {HEADINGS[2]}\n")[1].split("\n## ")[0]
    assert re.search(rf"\]\(images/{name}_\w+\.png\)", came_out)


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_study_s_page_says_what_its_folder_keeps_and_what_shows_it(name: str) -> None:
    text = TEXTS[DOCS / f"{name}.md"]
    assert all(f"`{kept}" in text for kept in KEPT[name]) and "`circuitkit report FOLDER`" in text


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_a_picture_is_shown_and_small(path) -> None:
    assert any(f"images/{path.name}" in text for text in TEXTS.values())
    assert path.stat().st_size < 200_000
    with Image.open(path) as image:
        assert image.width > 400
