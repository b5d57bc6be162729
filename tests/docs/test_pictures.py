"""The pictures of reports are drawn by one script, from the studies that it names."""

import importlib
import os
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from pages import DOCS, ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        return importlib.import_module("pictures")


def test_every_view_of_a_result_has_its_picture(pictures: ModuleType) -> None:
    views = re.findall(
        r"^  (\w+): \w+View,$", (ROOT / "frontend" / "src" / "views" / "index.ts").read_text(), re.MULTILINE
    )
    assert set(views) - set(pictures.PICTURES) == {"choice"}  # which shows others
    kept = {f"report_{name}_{size}_{theme}.png" for name in pictures.PICTURES for size, _, theme in pictures.SHOWN}
    assert {path.name for path in (DOCS / "images").glob("report_*")} == kept


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)) and not os.environ.get("CI"),
    reason=f"none of {', '.join(BROWSERS)} is on the PATH: make browser",
)
def test_the_script_draws_a_study_that_it_runs(pictures: ModuleType, tmp_path: Path) -> None:
    pictures.draw("map", out=tmp_path, within=tmp_path / "studies")
    wide, narrow = (
        np.asarray(Image.open(tmp_path / f"report_map_{which}.png").convert("L"))
        for which in ("wide_light", "narrow_dark")
    )
    assert 1000 < wide.shape[1] <= 1200 and 500 < narrow.shape[1] <= 600
    # Each cell's examples stand below the map: half a page is not enough for both.
    assert wide.shape[0] > 700
    assert np.median(wide) > 200 and np.median(narrow) < 60
    with pytest.raises(SystemExit, match="no picture is called maps: map, "):
        pictures.draw("maps", out=tmp_path, within=tmp_path)
