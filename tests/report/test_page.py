"""The page: all of a folder in one file that loads nothing, in which every text is only text."""

import base64
import hashlib
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import circuitkit as ck
from circuitkit.report import ReportError, page
from circuitkit.report.html import visible
from circuitkit.results import Baseline, Result
from report.studies import HOSTILE, study, table, write_json


class Read(HTMLParser):
    """The tags of a page with their attributes, and its texts without those of its own script and style."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def written(folder, **told):
    return Read(ck.report.write(folder, progress=False, **told))


def test_a_page_tells_what_was_asked_found_and_how_to_run_it_again(tmp_path):
    text = written(study(tmp_path)).text
    places = [
        text.index(part)
        for part in (
            "Patching: deductor-5k",
            "Which layer moves the logit difference, with clean activations in the corrupt run?",
            "1 of 3 cells survives correction over all of them: layer 0 (effect 4, 80% of the whole, 95 % interval",
            "Table, 3 rows",
            "over resid_pre",
            "2.13.0",
            hashlib.sha256((tmp_path / "residual.safetensors").read_bytes()).hexdigest(),
            "circuitkit patch deductor-5k --out 'my study'",
        )
    ]
    assert places == sorted(places)


def test_a_page_loads_nothing_and_runs_one_script(tmp_path):
    path = ck.report.write(study(tmp_path), progress=False)
    read = Read(path)
    for tag, attributes in read.tags:
        assert attributes.get("src", "data:").startswith("data:"), tag
        assert attributes.get("href", "#").startswith("#"), tag
        assert tag not in ("link", "iframe", "base", "form")
    policy = next(told["content"] for _, told in read.tags if told.get("http-equiv"))
    scripts = re.findall(r"<script>(.*?)</script>", path.read_text(encoding="utf-8"), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert policy.startswith(f"default-src 'none'; script-src 'sha256-{digest}';")


def hostile(folder):
    """A folder in which every place that may hold a user's or a model's text holds one that is meant to run."""
    first, second = HOSTILE[:2]
    told = {
        "model": first,
        "command": f"circuitkit patch '{second}'",
        "versions": {second: first},
        "time": second,
        "sentences": list(HOSTILE),
        "plan": {first: list(HOSTILE)},
    }
    values = torch.rand(len(HOSTILE), 6, generator=torch.Generator().manual_seed(0))
    study_of_tokens = Result(
        values,
        ("position",),
        Baseline(torch.ones(6), torch.zeros(6)),
        "denoise",
        metric=first,
        unit=second,
        title=f"{first} {second} $y$",
        labels={"position": HOSTILE},
        provenance=told,
    )
    study_of_tokens.save(folder / "tokens.safetensors")
    write_json(folder / "provenance.json", told)
    pd.DataFrame({first: HOSTILE, second: 1.5}).to_csv(folder / "<img src=x onerror=alert(3)>.csv", index=False)
    (folder / "log.txt").write_text("\n".join(HOSTILE), encoding="utf-8")
    (folder / "report.md").write_text("".join(f"- **{text}** `{text}`\n" for text in HOSTILE), encoding="utf-8")
    table(folder / "<b>")
    write_json(folder / "generated.json", {"prompt": first, "unchanged": second, "changed": HOSTILE[4]})
    return folder


def test_prompts_tokens_responses_and_names_are_text_wherever_they_stand(tmp_path):
    read = written(hostile(tmp_path))
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "div",
        "h1",
        "h2",
        "h3",
        "h4",
        "p",
        "nav",
        "ul",
    }
    known |= {"li", "a", "main", "section", "details", "summary", "span", "strong", "code", "pre", "dl", "dt", "dd"}
    known |= {"table", "thead", "tbody", "tr", "th", "td", "script", "img"}
    assert {tag for tag, _ in read.tags} <= known
    assert [told.get("type") for tag, told in read.tags if tag == "script"] == ["application/json", None]
    assert all(told["src"].startswith("data:image/") for tag, told in read.tags if tag == "img")
    assert not [name for _, told in read.tags for name in told if name.startswith("on")]
    for text in HOSTILE:
        assert " ".join(visible(text).split()) in read.text
    assert "{{ 7 * 7 }}" in read.text


def test_hidden_and_control_characters_are_seen(tmp_path):
    raw = ck.report.write(hostile(tmp_path), progress=False).read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\u2028\u202a-\u202e]", raw)
    assert "a␀b␛[31m" in raw and "⟨U+202E⟩turned round" in raw


def test_a_still_picture_of_hostile_labels_can_be_drawn(tmp_path):
    section = ck.report.read(hostile(tmp_path), progress=False).sections[0]
    image = section.stills[0].image.decode()
    assert section.stills[0].media_type == "image/svg+xml"
    assert "<script" not in image and "\x00" not in image and "&lt;/script" in image


def test_the_same_folder_gives_the_same_page(tmp_path):
    study(tmp_path / "a" / "out")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    pages = [ck.report.write(tmp_path / name / "out", progress=False) for name in ("a", "b", "a")]
    first, *others = (path.read_bytes() for path in pages)
    assert others == [first, first]


def test_two_cards_of_a_folder_have_two_titles(tmp_path):
    for name in ("a_b", "a b"):
        table(tmp_path, name)
    assert [each.title for each in ck.report.read(tmp_path, progress=False).sections] == ["A b", "A b (2)"]


def test_a_page_that_fails_leaves_the_one_before(tmp_path):
    path = ck.report.write(table(tmp_path), progress=False)
    before = path.read_bytes()
    (tmp_path / "table.csv").rename(tmp_path / "table.png")
    with pytest.raises(ReportError, match=r"table\.png"):
        ck.report.write(tmp_path, progress=False)
    assert path.read_bytes() == before
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".html", ".png"]


def test_what_cannot_be_read_is_named_at_the_top_and_the_rest_is_shown(tmp_path):
    study(tmp_path)
    spoilt = {
        "cut.safetensors": b"cut",
        "deep.json": b"[" * 200_000,
        "latin.csv": b"a,b\n\xff\xfe,\n",
        "none.png": b"GIF89a",
        "threshold.json": b'{"circuitkit.threshold": 1}',
        "summary.csv": b"",
    }
    (tmp_path / "prompts.json").write_bytes(b"{")
    (tmp_path / "part").mkdir()
    for name, data in spoilt.items():
        (tmp_path / "part" / name).write_bytes(data)
    report = ck.report.read(tmp_path, progress=False)
    named = {re.search(r"/(\S+) ", each)[1] for each in report.unread}
    assert named == {"prompts.json", *(f"part/{name}" for name in spoilt if name != "summary.csv")}
    assert report.html.count("Not in this page: ") == len(named)
    assert "1 of 3 cells survives correction" in report.html
    assert str(tmp_path) not in " ".join(report.unread)
    assert sum(each.startswith("Not in this page: ") for each in report._says()) == len(named)
    with pytest.warns(UserWarning, match="not in the report"):
        ck.report.write(tmp_path, progress=False)


def test_a_file_that_changes_while_the_page_is_made_is_named(tmp_path):
    report = ck.report.read(table(tmp_path), progress=False)
    (tmp_path / "table.csv").write_text("n,share\n2,0.25\n")
    with pytest.raises(ReportError, match=r"table\.csv was changed or taken away while the report was made"):
        report.save(tmp_path / "report.html")


def test_a_page_that_cannot_be_written_is_refused(tmp_path):
    report = ck.report.read(table(tmp_path), progress=False)
    with pytest.raises(ReportError, match=r"cannot be written .*--out"):
        report.save(tmp_path / "table.csv" / "report.html")
    with pytest.raises(ReportError, match=r"one page, FILE\.html"):
        report.save(tmp_path / "report.pdf")


def test_two_folders_stand_on_one_page(tmp_path):
    study(tmp_path / "base")
    table(tmp_path / "post", model="deductor-20k")
    text = written(tmp_path / "base", beside=tmp_path / "post", out=tmp_path / "both.html").text
    assert "deductor-20k" in text and "post/table.csv" in text and "base/residual.safetensors" in text
    assert "circuitkit report base --beside post" in text
    assert "circuitkit report 'the base'" in written(table(tmp_path / "the base")).text


def test_a_page_is_kept_small_and_says_what_it_leaves_out(tmp_path, monkeypatch):
    table(tmp_path)
    noise = np.random.default_rng(0)
    for name in ("big", "bigger"):
        Image.fromarray(noise.integers(0, 255, (200, 300, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    room = sum(map(len, page.assets().values())) + 120_000
    monkeypatch.setattr(page, "MOST_BYTES", room)
    report = ck.report.read(tmp_path, progress=False)
    assert len(report.html.encode()) <= room
    assert "is left out, to keep the page small" in report.html
    assert "data:image/png" in report.html


def test_a_tables_words_and_counts_are_those_of_its_file(tmp_path):
    pd.DataFrame({"token": ["NA", "None", "null", "x"], "n": [1234567, None, 2.0, 1 / 3]}).to_csv(
        tmp_path / "a.csv", index=False
    )
    raw = ck.report.write(tmp_path, progress=False).read_text(encoding="utf-8")
    assert all(f"<td>{token}</td>" in raw for token in ("NA", "None", "null"))
    assert '<td class="number">1234567</td>' in raw and '<td class="number"></td>' in raw


def test_long_tables_and_texts_are_cut_and_say_so(tmp_path):
    pd.DataFrame({"n": range(250), "text": "x" * 1000, "third": 1 / 3}).to_csv(tmp_path / "a.csv", index=False)
    raw = ck.report.write(tmp_path, progress=False).read_text(encoding="utf-8")
    assert "The first 200 of 250 rows are shown; all are in a.csv." in raw
    assert "x" * 401 not in raw
    # What copies and sorts is the whole number.
    assert '<td class="number" data-value="0.3333333333333333">0.33333</td>' in raw
