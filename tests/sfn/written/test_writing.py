"""The writer of folders: edits in blocks, everything else copied, all of it or nothing."""

import errno
import json
import os
import threading

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from circuitkit.sfn import Checkpoint, CheckpointError, WritingError, merge
from circuitkit.sfn.written import shards
from circuitkit.sfn.written import writing as writer
from circuitkit.sfn.written.manifest import Manifest, ManifestError
from circuitkit.sfn.written.writing import Extra, write
from sfn import toys

O_PROJ = "model.layers.0.self_attn.o_proj.weight"
EMBED = "model.embed_tokens.weight"


class Watched:
    """An edit that adds to what it is given, or whatever else, and remembers what it was asked for."""

    def __init__(self, change=lambda old: old + 1):
        self.change, self.asked = change, []

    def rows(self, at, old):
        self.asked.append((at, tuple(old.shape), threading.get_ident()))
        return self.change(old)

    def told(self):
        return {"blocks": len(self.asked)}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return Checkpoint.open(toys.written("llama", tmp_path_factory.mktemp("base") / "a", shards=3, tied=True))


@pytest.fixture
def small_blocks(monkeypatch):
    real = Checkpoint.blocks
    monkeypatch.setattr(Checkpoint, "blocks", lambda self, name, nbytes=0: real(self, name, 1000))
    monkeypatch.setattr(writer, "BLOCK", 1000)


def tensors(folder):
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def working():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]


def test_rows_are_asked_for_in_order_each_once_and_from_one_thread(base, tmp_path, small_blocks):
    edits = {name: Watched() for name in base.tensors}
    manifest = write(base, edits, tmp_path / "out", told={"kind": "test"}, progress=False)
    found = tensors(tmp_path / "out")
    for name, stored in base.tensors.items():
        assert torch.equal(found[name], base.read(name) + 1)
        asked = edits[name].asked
        assert [row for at, _, _ in asked for row in range(at.start, at.stop)] == list(range(stored.rows))
        assert all(shape == ((at.stop - at.start, *stored.shape[1:])) for at, shape, _ in asked)
        assert len({thread for _, _, thread in asked}) == 1
    assert max(len(edit.asked) for edit in edits.values()) > 5
    assert manifest.copied == manifest.copied_bytes == 0
    assert all(change.told == {"blocks": len(edits[change.tensor].asked)} for change in manifest.changes)
    manifest.verify(tmp_path / "out", base)


def test_experts_in_one_tensor_come_as_a_table(tmp_path):
    base = Checkpoint.open(toys.written("gpt_oss", tmp_path / "a"))
    name = "model.layers.0.mlp.experts.down_proj"
    edit = Watched(lambda old: -old)
    write(base, {name: edit}, tmp_path / "out", told={"kind": "test"}, progress=False)
    (shape,) = (base.tensors[name].shape,)
    assert len(shape) == 3 and edit.asked[0][1] == (shape[0] * shape[1], shape[2])
    assert torch.equal(tensors(tmp_path / "out")[name], -base.read(name))


def test_blocks_make_no_difference(base, tmp_path, monkeypatch):
    manifests = []
    for nbytes in (1, 1000, 1 << 25):
        with monkeypatch.context() as patched:
            real = Checkpoint.blocks
            patched.setattr(
                Checkpoint, "blocks", lambda self, name, _=0, real=real, nbytes=nbytes: real(self, name, nbytes)
            )
            edit = Watched(lambda old: old * 3)
            edit.told = dict
            manifests.append(write(base, {O_PROJ: edit}, tmp_path / str(nbytes), told={"kind": "x"}, progress=False))
    assert len({(change.sha256_before, change.sha256_after) for each in manifests for change in each.changes}) == 1
    first, *others = (each.changes[0] for each in manifests)
    assert all(each.norm_change == pytest.approx(first.norm_change, rel=1e-12) for each in others)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda old: old.double(), "an edit gave float64.* for float32"),
        (lambda old: old[1:], r"an edit gave float32\[31, 32\] for float32\[32, 32\]; a tensor keeps its dtype"),
        (lambda old: old * torch.nan, "values that are not finite"),
        (lambda old: old / 0, "values that are not finite"),
    ],
)
def test_an_edit_that_is_none_leaves_nothing(base, tmp_path, change, told):
    with pytest.raises(WritingError, match=f"{O_PROJ}: .*{told}"):
        write(base, {O_PROJ: Watched(change)}, tmp_path / "out", told={"kind": "test"}, progress=False)
    assert left(tmp_path) == []


def raising(error):
    def raise_it(*_, **__):
        raise error

    return raise_it


# What writes, what looks over, what waits for the disk, and what comes behind them.
@pytest.mark.parametrize("at", ["write_at", "copied", "check_finite", "sync", "write_small_files", "Tally.add"])
@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), OSError(errno.EIO, "a broken disk")])
def test_an_error_of_any_thread_ends_all_and_leaves_nothing(base, tmp_path, monkeypatch, small_blocks, at, error):
    monkeypatch.setattr(f"circuitkit.sfn.written.writing.{at}", raising(error))
    kind = WritingError if isinstance(error, OSError) else type(error)
    with pytest.raises(kind, match=str(error) if kind is RuntimeError else None):
        write(base, {O_PROJ: Watched()}, tmp_path / "out", told={"kind": "test"}, progress=False)
    assert left(tmp_path) == [] and not working()


def test_files_are_written_front_to_back_one_after_the_other(base, tmp_path, monkeypatch, small_blocks):
    written, copy, put = [], writer.copied, writer.write_at

    def noted_copy(source, target, begin, to, count):
        written.append((os.fstat(target).st_ino, to, count))
        return copy(source, target, begin, to, count)

    def noted_put(target, data, to):
        written.append((os.fstat(target).st_ino, to, len(data)))
        put(target, data, to)

    for name, noted in (("copied", noted_copy), ("write_at", noted_put)):
        monkeypatch.setattr(writer, name, noted)
    write(base, {O_PROJ: Watched()}, tmp_path / "out", told={"kind": "test"}, progress=False)
    ends: dict[int, int] = {}
    for file, to, count in written:
        assert to == ends.get(file, 0)
        ends[file] = to + count
    files = {path.stat().st_ino: path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors")}
    assert ends == files and list(ends) == list(dict.fromkeys(file for file, _, _ in written))


def test_a_disk_that_is_too_small_or_fills_up(small_disk, monkeypatch):
    base = Checkpoint.open("deductor-400k-base")
    (small_disk / "taken").write_bytes(bytes(1_500_000))
    with pytest.raises(WritingError, match=r"no space is left; it needs [\d.]+ MB, and 0\.\d MB are free"):
        write(base, {}, small_disk / "out", told={"kind": "test"}, progress=False)
    # Another process takes what was free when it began.
    monkeypatch.setattr("circuitkit.sfn.written.whole_folder.check_room", lambda *_: None)
    for edits in ({}, {EMBED: Watched()}):
        with pytest.raises(WritingError, match=r"no space is left.*Nothing is left of it: make room") as caught:
            write(base, edits, small_disk / "out", told={"kind": "test"}, progress=False)
        assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.ENOSPC
        assert left(small_disk) == ["taken"]
    (small_disk / "taken").unlink()
    write(base, {}, small_disk / "out", told={"kind": "test"}, progress=False)
    assert left(small_disk)[0] == "out"


def test_a_limit_on_files_is_told_apart(base, tmp_path, monkeypatch):
    def limited(*_):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "pwrite", limited)
    with pytest.raises(WritingError, match="files may not be so large"):
        write(base, {}, tmp_path / "out", told={"kind": "test"}, progress=False)
    assert left(tmp_path) == []


def cut(path):
    os.truncate(path, 20_000)


def touched(path):
    os.utime(path, ns=(1, 1))


def replaced(path):
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").rename(path)


@pytest.mark.parametrize("how", [cut, touched, replaced])
@pytest.mark.parametrize("edited", [["model.norm.weight"], []])
# Before it is read, when its header is, while it is copied, and as the last of it is.
@pytest.mark.parametrize("when", [0, "_header", 1, 5, -1])
def test_a_source_that_is_not_what_it_was_is_named(tmp_path, monkeypatch, how, edited, when):
    folder = toys.written("llama", tmp_path / "a")
    base, calls, real = Checkpoint.open(folder), [], writer.copied
    assert base.parts
    last = len(base.tensors) - len(edited)
    if how is cut and edited and when == -1:
        pytest.skip("an edit's old values are looked at over the file itself, whose end would end the process")

    def copied(source, target, begin, to, count):
        calls.append(begin)
        yield from () if how is cut else real(source, target, begin, to, count)
        if len(calls) == (when if when != -1 else last):
            how(folder / "model.safetensors")
        if how is cut:
            yield from real(source, target, begin, to, count)

    if when == 0:
        how(folder / "model.safetensors")
    elif when == "_header":
        header = shards._header
        monkeypatch.setattr(shards, "_header", lambda file: (header(file), how(file))[0])
    else:
        monkeypatch.setattr(writer, "copied", copied)
    edits = {name: Watched() for name in edited}
    if how is replaced and isinstance(when, int) and when != 0 and not edited:
        # What was opened is copied to its end, whatever is put in its place.
        before = tensors(folder)
        write(base, edits, tmp_path / "out", told={"kind": "test"}, progress=False)
        assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(tmp_path / "out").items())
        return
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not the file any more that was opened"):
        write(base, edits, tmp_path / "out", told={"kind": "test"}, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_progress_counts_every_byte_of_the_weights(base, tmp_path, monkeypatch):
    counted, asked = [], []

    def bar(total, what, progress):
        made = writer.tqdm(total=total, disable=True)
        made.update = counted.append
        asked.append((total, what, progress))
        return made

    monkeypatch.setattr(writer, "bytes_bar", bar)
    write(base, {O_PROJ: Watched()}, tmp_path / "out", told={"kind": "test"})
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.safetensors"))
    assert asked == [(size, "writing out", True)] and sum(counted) == size


def test_what_goes_with_the_weights_is_copied_and_nothing_else(tmp_path):
    folder = toys.written("llama", tmp_path / "a")
    (folder / "additional_chat_templates").mkdir()
    (folder / "checkpoint-5").mkdir()
    kept = ["chat_template.jinja", "modeling_own.py", "additional_chat_templates/tool.jinja", "spiece.model"]
    dropped = [".gitattributes", "pytorch_model.bin", "model.gguf", "consolidated.safetensors", "checkpoint-5/a.json"]
    # Of another format, and of no format: the weights are in one file.
    dropped += ["pytorch_model.bin.index.json", "model.safetensors.index.json", "optimizer.pt"]
    for name in [*kept, *dropped, "manifest.json"]:
        (folder / name).write_text(name)
    write(Checkpoint.open(folder), {}, tmp_path / "out", told={"kind": "test"}, progress=False)
    found = set(left(tmp_path / "out")) - {"additional_chat_templates"}
    before = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == (before - set(dropped)) | {"README.md"}
    assert all((tmp_path / "out" / name).read_text() == name for name in kept)
    assert Manifest.load(tmp_path / "out").told["kind"] == "test"


def test_a_new_tensor_is_aligned_among_others_of_other_widths(tmp_path):
    folder = toys.written("llama", tmp_path / "a", tied=True, dtype=torch.bfloat16)
    # As some trainers save it: norms in float32, and one of an odd number of bytes behind.
    toys.restored(
        folder,
        lambda found: (
            {name: each.float() if "norm" in name else each for name, each in found.items()}
            | {"odd": torch.ones(3, dtype=torch.uint8)}
        ),
    )
    base = Checkpoint.open(folder)
    extra = {"lm_head.weight": Extra(EMBED, Watched(lambda old: old * 2), ("lm_head",))}
    told = {"kind": "test"}
    write(
        base,
        {},
        tmp_path / "out",
        told=told,
        extra=extra,
        config_changes={"tie_word_embeddings": False},
        progress=False,
    )
    file = tmp_path / "out" / "model.safetensors"
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    for stored in Checkpoint.open(tmp_path / "out").tensors.values():
        assert stored.offset % stored.dtype.itemsize == 0
    before = load_file(folder / "model.safetensors")
    assert toys.equal(load_file(file).items(), (before | {"lm_head.weight": before[EMBED] * 2}).items())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert torch.equal(model.lm_head.weight, before[EMBED] * 2) and torch.equal(
        model.model.embed_tokens.weight, before[EMBED]
    )


def test_an_unembedding_beside_names_without_a_prefix(tmp_path):
    a, b = (toys.written("gpt2", tmp_path / name, tied=name == "a", seed=seed) for seed, name in enumerate("ab"))
    # As the hub's GPT-2 is stored.
    toys.restored(a, lambda found: {name.removeprefix("transformer."): each for name, each in found.items()})
    assert "wte.weight" in Checkpoint.open(a).tensors
    merge(a, b, ["embed", "lm_head"], tmp_path / "out", progress=False)
    found, theirs = (AutoModelForCausalLM.from_pretrained(each) for each in (tmp_path / "out", b))
    assert torch.equal(found.lm_head.weight, theirs.lm_head.weight)
    assert torch.equal(found.transformer.wte.weight, theirs.transformer.wte.weight)
    assert not torch.equal(found.lm_head.weight, found.transformer.wte.weight)


def test_manifests_load_as_they_were_and_spoiled_ones_are_named(base, tmp_path):
    written = write(base, {O_PROJ: Watched(torch.zeros_like)}, tmp_path / "out", told={"kind": "test"}, progress=False)
    loaded = Manifest.load(tmp_path / "out")
    assert loaded.frame.equals(written.frame) and loaded.told == written.told
    assert (loaded.copied, loaded.copied_bytes) == (written.copied, written.copied_bytes)
    assert loaded.told["model"] == base.name and loaded.told["command"] and loaded.told["versions"]["torch"]
    with pytest.raises(ManifestError, match=r"has no manifest\.json"):
        Manifest.load(base.folder)
    path = tmp_path / "out" / "manifest.json"
    for text, told in (("{", "is spoiled"), ('{"format": 9}', "another format"), ('{"format": 1}', "is spoiled")):
        path.write_text(text)
        with pytest.raises(ManifestError, match=told):
            Manifest.load(tmp_path / "out")


def test_a_copied_tensor_that_has_no_numbers_in_it_is_not_looked_over(tmp_path):
    folder = toys.written("llama", tmp_path / "a")
    # No parameter of the model: nothing computes with it.
    toys.restored(folder, lambda found: found | {"of_a_trainer": torch.tensor([torch.nan, 1.0])})
    write(Checkpoint.open(folder), {}, tmp_path / "out", told={"kind": "test"}, progress=False)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_empty_tensors_and_single_numbers_pass(tmp_path):
    folder = toys.written("llama", tmp_path / "a")
    more = {"empty": torch.zeros(0, 4), "single": torch.tensor(3.0), "none": torch.zeros(0)}
    toys.restored(folder, lambda found: found | more)
    base = Checkpoint.open(folder)
    edits = {name: Watched(lambda old: old * 2) for name in more}
    write(base, edits, tmp_path / "out", told={"kind": "test"}, progress=False)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["single"] == 6 and found["empty"].shape == (0, 4) and found["none"].shape == (0,)
    assert edits["single"].asked[0][1] == (1,)


def test_the_config_says_what_it_is_told_to(base, tmp_path):
    write(base, {}, tmp_path / "out", told={"kind": "test"}, config_changes={"rms_norm_eps": 1e-3}, progress=False)
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (base.folder, tmp_path / "out"))
    assert after == before | {"rms_norm_eps": 1e-3}


def test_two_at_once_write_two_folders_or_one(base, tmp_path):
    outcomes: dict[int, object] = {}
    begun = threading.Barrier(2)

    def one(number, out):
        begun.wait()
        try:
            outcomes[number] = write(base, {O_PROJ: Watched()}, out, told={"kind": "test"}, progress=False)
        except WritingError as error:
            outcomes[number] = error

    for names, most in ((("same", "same"), 1), (("one", "other"), 2)):
        threads = [threading.Thread(target=one, args=(number, tmp_path / name)) for number, name in enumerate(names)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(isinstance(each, Manifest) for each in outcomes.values()) == most
    for name in ("same", "one", "other"):
        Manifest.load(tmp_path / name).verify(tmp_path / name, base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "same"]
