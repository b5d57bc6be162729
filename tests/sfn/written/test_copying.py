"""Bytes from file to file, by every way that a system offers."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.sfn.written import copying
from circuitkit.sfn.written.copying import copied, write_at


def unable(number):
    def answer(*_):
        raise OSError(number, os.strerror(number))

    return answer


REAL = os.copy_file_range
WAYS = {
    "within the system": REAL,
    "another disk": unable(errno.EXDEV),
    "not supported": unable(errno.EOPNOTSUPP),
    "an old kernel": unable(errno.ENOSYS),
    "nothing copied": lambda *_: 0,
    "a little at a time": lambda source, target, count, begin, to: REAL(source, target, min(count, 3), begin, to),
    None: None,
}


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "source", tmp_path / "target"]
    paths[0].write_bytes(bytes(range(200)))
    paths[1].write_bytes(b"." * 250)
    opened = [os.open(path, os.O_RDWR) for path in paths]
    yield *opened, paths[1]
    for each in opened:
        os.close(each)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("piece", [1 << 25, 7])
def test_a_range_arrives_and_nothing_else_changes(files, monkeypatch, way, piece):
    source, target, path = files
    if way is None:
        monkeypatch.delattr(os, "copy_file_range")
    else:
        monkeypatch.setattr(os, "copy_file_range", WAYS[way])
    monkeypatch.setattr(copying, "_PIECE", piece)
    assert sum(copied(source, target, 20, 50, 100)) == 100
    assert path.read_bytes() == b"." * 50 + bytes(range(20, 120)) + b"." * 100


def test_nothing_is_copied_of_an_empty_range(files):
    source, target, path = files
    assert list(copied(source, target, 20, 50, 0)) == [] and path.read_bytes() == b"." * 250


def test_a_source_that_ends_early_is_said(files):
    source, target, _ = files
    with pytest.raises(OSError, match="a source ended at byte 200, earlier than when it was opened"):
        list(copied(source, target, 150, 0, 100))


@pytest.mark.parametrize("way", ["copy_file_range", "pwrite"])
def test_a_full_disk_is_not_taken_for_a_system_that_cannot_copy(files, monkeypatch, way):
    source, target, _ = files
    monkeypatch.setattr(os, "copy_file_range", unable(errno.EXDEV))
    monkeypatch.setattr(os, way, unable(errno.ENOSPC))
    with pytest.raises(OSError) as caught:
        list(copied(source, target, 0, 0, 100))
    assert caught.value.errno == errno.ENOSPC


@given(data=st.binary(max_size=50), most=st.integers(1, 9))
def test_short_writes_go_on(tmp_path_factory, data, most):
    path, real = tmp_path_factory.getbasetemp() / "short", os.pwrite
    target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "pwrite", lambda into, what, to: real(into, what[:most], to))
        write_at(target, memoryview(data), 3)
    os.close(target)
    assert path.read_bytes() == (b"\0\0\0" + data if data else b"")
