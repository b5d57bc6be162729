"""The page: a folder's sections between what was asked and how to run it again, as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from tqdm import tqdm

from circuitkit.records import whole_file
from circuitkit.report import origin, sentences
from circuitkit.report.contents import Contents
from circuitkit.report.embedding import MOST_BYTES
from circuitkit.report.errors import ReportError
from circuitkit.report.fitting import fitted, size
from circuitkit.report.html import rendered, visible
from circuitkit.report.section import Section
from circuitkit.report.sections import made
from circuitkit.report.sentences import Line
from circuitkit.showing import Shown

NAME = "report.html"
_SLACK = 5_000

_MOST: Mapping[str, int] = {"settings": 20, "hashes": 300, "commands": 50}
"""How many folders' settings, files' hashes and commands are told one by one."""


@dataclass(frozen=True)
class Part:
    """What one folder shows.

    Attributes:
        name: the folder, as the page calls it.
        said: what its study wrote down of what it found.
        sections: its cards.
        notes: what is not shown, and why.
        unread: files that cannot be read, and why.
    """

    name: str
    said: tuple[Line, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def paragraphs(self) -> list[tuple[Line | None, list[Line]]]:
        """What is said under each heading, None before the first."""
        found: list[tuple[Line | None, list[Line]]] = [(None, [])]
        for line in self.said:
            if line.heading:
                found.append((line, []))
            else:
                found[-1][1].append(line)
        return [each for each in found if any(each)]


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """What a page of a folder of results shows.

    Attributes:
        contents: what the folder holds.
        parts: what is shown of the folder, of those in it, and of the one beside it.
    """

    contents: Contents
    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        """What was done, to which model."""
        return origin.title(self.contents)

    @property
    def sections(self) -> tuple[Section, ...]:
        """The cards of all folders, in the page's order."""
        return tuple(section for part in self.parts for section in part.sections)

    @property
    def unread(self) -> tuple[str, ...]:
        """The files that cannot be read, and why: the page says so at its top."""
        return tuple(each for part in self.parts for each in part.unread)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found: what the study says, and each of its results."""
        written = [line.text for part in self.parts for line in part.said if not line.heading]
        return (*written, *(sentence for section in self.sections for sentence in section.says))

    def _title(self) -> str:
        return f"Report: {self.title}"

    def _says(self) -> tuple[str, ...]:
        return (*self.sentences, *(f"Not in this page: {each}" for each in self.unread))

    @cached_property
    def html(self) -> str:
        """The page: one file that loads nothing, and is as small as `embedding.MOST_BYTES`, its text allowing."""
        page = self._page(self.parts)
        room = sum(map(size, self.sections))
        while (over := len(page.encode()) - MOST_BYTES) > 0 and room > 0:
            # Sizes are estimates, so that it may take more than one try.
            room -= over + _SLACK
            page = self._page(fitted(self.parts, room))
        return page

    def _page(self, parts: Sequence[Part]) -> str:
        return rendered("page.html.jinja", parts=parts, **self._told, **assets())

    @cached_property
    def _told(self) -> dict[str, Any]:
        """What stands before and behind the pictures."""
        every = [self.contents] if self.contents.beside is None else [self.contents, self.contents.beside]
        settings = [(part.name, origin.settings(part)) for contents in every for part in contents.walk()]
        files = [(f"{contents.name}/{name}", *rest) for contents in every for name, *rest in origin.hashes(contents)]
        told: dict[str, list[Any]] = {
            "settings": [each for each in settings if each[1]],
            "hashes": files,
            "commands": origin.commands(every),
        }
        return {
            "title": self.title,
            "unread": self.unread,
            "asked": list(dict.fromkeys(each for contents in every for each in origin.asked(contents))),
            "versions": origin.versions(every),
            "times": origin.times(every),
            "in_order": origin.in_order(every),
            "again": _again(self.contents),
            **{name: each[: _MOST[name]] for name, each in told.items()},
            "left_out": {name: max(0, len(each) - _MOST[name]) for name, each in told.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all, and give its path.

        Raises:
            ReportError: the file has another suffix than .html, or cannot be written there.
        """
        path = Path(path)
        if path.suffix != ".html":
            raise ReportError(f"{path}: a report is one page, FILE.html")
        try:
            with whole_file(path) as beside:
                beside.write_text(self.html, encoding="utf-8", newline="\n")
        except OSError as error:
            raise ReportError(
                f"{path} cannot be written ({error.strerror}): name another file with --out, or make room there"
            ) from error
        return path


def write(
    folder: str | Path, *, beside: str | Path | None = None, out: str | Path | None = None, progress: bool = True
) -> Path:
    """Turn a folder of results into one page, `report.html` in it, and give its path.

    Args:
        folder: what a command or an experiment wrote with `--out`, a sweep's folder, or one that holds several.
        beside: another one, whose results are shown side by side.
        out: the file, if not the folder's own.
        progress: show a bar over the sections.

    A file that cannot be read is named at the page's top, and warned of; the rest is shown.

    Raises:
        ReportError: there is no such folder, nothing in it can be shown, a file of it is changed meanwhile, or the
            page cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ck.ablation.sweep(ck.load("deductor-5k"), ["Every wumpus is a dumpus."], progress=False).save(folder)
    ...     write(folder, progress=False).name
    'report.html'
    """
    report = read(folder, beside=beside, progress=progress)
    path = report.save(Path(folder) / NAME if out is None else out)
    for each in report.unread:
        warnings.warn(f"not in the report: {each}", stacklevel=2)
    return path


def read(folder: str | Path, *, beside: str | Path | None = None, progress: bool = True) -> Report:
    """What the page of a folder would show; arguments and errors are those of `write`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = ck.ablation.sweep(ck.load("deductor-5k"), ["Every wumpus is a dumpus."], progress=False).save(folder)
    ...     [section.title for section in read(folder, progress=False).sections]
    ['Result']
    """
    contents = Contents.of(folder, beside=beside)
    with tqdm(desc="circuitkit report", unit="section", disable=not progress) as bar:
        parts = [_part(each, bar) for each in _every(contents)]
    report = Report(contents, tuple(_anchored(parts)))
    if report.unread and not report.sections and not report.sentences:
        raise ReportError(f"{folder}: there is nothing to show in it: {' '.join(report.unread)}")
    return report


def assets() -> dict[str, str]:
    """The script and the stylesheet that pages carry, and the hash by which the page allows that one script."""
    folder = resources.files("circuitkit.report") / "assets"
    script, style = ((folder / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": script, "style": style, "script_hash": f"sha256-{digest}"}


def _every(contents: Contents) -> Iterator[Contents]:
    yield from contents.walk()
    if contents.beside is not None:
        yield from contents.beside.walk()


def _part(contents: Contents, bar: tqdm[Any]) -> Part:
    said = tuple(sentences.written(contents))
    sections = []
    for section in made(contents):
        sections.append(section)
        bar.set_postfix_str(visible(section.title), refresh=False)
        bar.update()
    # The page calls the folder so, wherever it lies.
    unread, notes = (tuple(_called(each, contents) for each in told) for told in (contents.unread, contents.notes))
    return Part(contents.name, said, tuple(sections), notes, unread)


def _called(told: str, contents: Contents) -> str:
    """A text with what the page calls the folder in place of where it lies."""
    # Longest first: the folder as it was given may be the end of where it really is.
    for folder in sorted({str(contents.folder), str(contents.folder.resolve())}, key=len, reverse=True):
        if folder not in (".", ".."):
            # A name without a folder may be a word, too.
            end = r"(?![\w-]|\.\w)" if "/" in folder else "(?=/)"
            told = re.sub(rf"(?<![\w./-]){re.escape(folder)}{end}", lambda _: contents.name, told)
    return told


def _anchored(parts: Sequence[Part]) -> list[Part]:
    """The same with names that are anchors, each once in the page, and titles that are each once in a folder."""
    taken: set[str] = set()
    found = []
    for part in parts:
        sections: list[Section] = []
        for section in part.sections:
            plain = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in section.name).split()).lower()
            name, number = f"s-{plain or 'section'}", 2
            while name in taken:
                name, number = f"s-{plain or 'section'}-{number}", number + 1
            taken.add(name)
            title, number = section.title, 2
            while title in {each.title for each in sections}:
                title, number = f"{section.title} ({number})", number + 1
            sections.append(replace(section, name=name, title=title))
        found.append(replace(part, sections=tuple(sections)))
    return found


def _again(contents: Contents) -> str:
    beside = () if contents.beside is None else ("--beside", contents.beside.name)
    return shlex.join(["circuitkit", "report", contents.name, *beside])
