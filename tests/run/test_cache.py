"""A cache gives every part of what it holds, and comes back from its file as it went in."""

import struct
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import architectures
import circuitkit as ck
from circuitkit import Cache, Model, Site
from circuitkit.run import CacheError
from oracles import kinds_of

KINDS = sorted(kinds_of("llama") - {"logits"})


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@cache
def whole(batch: str) -> Cache:
    prompts = architectures.prompts(batch)
    return model_of("llama").run(prompts.input_ids, capture=KINDS, attention_mask=prompts.attention_mask).cache


@st.composite
def parts(draw):
    kind = draw(st.sampled_from(KINDS))
    batch = draw(st.sampled_from(["equal", "left_padded"]))
    shortest = int(architectures.prompts(batch).real.sum(-1).min())
    position = st.none() | st.integers(-shortest, shortest - 1)
    n_heads = 2 if kind in "kv" else 4
    head = draw(st.none() | st.integers(0, n_heads - 1)) if kind in ("q", "k", "v", "z", "scores", "pattern") else None
    key = draw(position) if kind in ("scores", "pattern") else None
    return Site(kind, layer=None if kind == "embed" else 1, head=head, position=draw(position), key=key), batch


def by_loop(site: Site, batch: str) -> torch.Tensor:
    """A site's part of its whole value, row by row."""
    value, real = whole(batch)[site.place], architectures.prompts(batch).real
    rows = []
    for row, mask in zip(value, real, strict=True):
        columns = torch.nonzero(mask).flatten()
        attention = site.kind in ("scores", "pattern")
        if attention:
            row = row.movedim(0, -1)  # [query, key, head]
            row = row if site.key is None else row[:, columns[site.key]]
            row = row if site.head is None else row[..., site.head]
            row = row if site.position is None else row[columns[site.position]]
            row = row if site.head is not None else row.movedim(-1, 0)
        else:
            row = row if site.position is None else row[columns[site.position]]
            row = row if site.head is None else row[..., site.head, :]
        rows.append(row)
    return torch.stack(rows)


@settings(max_examples=60, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(parts())
def test_a_part_is_the_same_captured_alone_read_from_the_whole_and_sliced_by_hand(case):
    site, batch = case
    prompts = architectures.prompts(batch)
    expected = by_loop(site, batch)
    run = model_of("llama").run(prompts.input_ids, capture=[site], attention_mask=prompts.attention_mask)
    assert list(run.cache) == [site]
    assert torch.equal(run.cache[site], expected)
    assert torch.equal(whole(batch)[site], expected)


@settings(max_examples=20, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(parts(), st.data())
def test_a_part_of_a_part_is_that_part(case, data):
    site, batch = case
    some = data.draw(st.sets(st.sampled_from(["head", "position", "key"])))
    between = site.at(**dict.fromkeys(some))
    prompts = architectures.prompts(batch)
    run = model_of("llama").run(prompts.input_ids, capture=[between], attention_mask=prompts.attention_mask)
    try:
        found = run.cache[site]
    except CacheError:  # a part that only the whole can give is refused, never given wrong
        return
    assert torch.equal(found, by_loop(site, batch))


@pytest.mark.parametrize("batch", ["equal", "left_padded"])
def test_a_saved_cache_is_the_same_cache(batch, tmp_path):
    prompts = architectures.prompts(batch)
    run = model_of("llama").run(
        prompts.input_ids, [ck.scale("z[layer=0]", 0.5)], capture=KINDS, attention_mask=prompts.attention_mask
    )
    path = run.cache.save(tmp_path / "cache.safetensors")
    again = Cache.load(path)
    assert list(again) == list(run.cache)
    assert all(torch.equal(again[site], run.cache[site]) for site in run.cache)
    assert torch.equal(again.positions, run.cache.positions)
    assert torch.equal(again["z[layer=1, head=2, position=-1]"], run.cache["z[layer=1, head=2, position=-1]"])
    assert sorted(tmp_path.iterdir()) == [path], "something was left beside the file"


def test_the_file_says_where_it_comes_from(tmp_path):
    hf, tokenizer = architectures.build("llama")
    model = Model(hf, tokenizer, name="tiny", revision="abc")
    run = model.run("w5 w6 w7", [ck.zero("z[layer=0, head=1]")], capture=["resid_post"])
    path = run.cache.save(tmp_path / "cache.safetensors")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == "tiny"
    assert metadata["revision"] == "abc"
    assert metadata["circuitkit"] == ck.__version__
    assert "z[layer=0, head=1]" in metadata["interventions"]
    assert Cache.load(path).metadata["model"] == "tiny"


def test_a_loaded_cache_reads_a_value_when_it_is_asked_for(tmp_path, monkeypatch):
    run = model_of("llama").run("w5 w6 w7", capture=["resid_post", "z"])
    path = run.cache.save(tmp_path / "cache.safetensors")
    read = []

    class Watched:
        def __init__(self, *args, **kwargs):
            self.file = safe_open(*args, **kwargs)

        def metadata(self):
            return self.file.metadata()

        def get_tensor(self, name):
            read.append(name)
            return self.file.get_tensor(name)

    import circuitkit.run.cache as module

    monkeypatch.setattr(module, "safe_open", Watched)
    loaded = Cache.load(path)
    assert set(read) <= {"positions", "prompt_lengths"}
    loaded["z[layer=1]"]
    assert read[-1] == "z[layer=1]"
    assert "z[layer=0]" not in read


@pytest.mark.parametrize("left", [0, 4, 100, 0.5, 0.99])
def test_a_file_cut_short_is_named(left, tmp_path):
    path = model_of("llama").run("w5 w6 w7", capture=["z"]).cache.save(tmp_path / "cache.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(CacheError, match=r"cache.safetensors is cut short or not a safetensors file"):
        Cache.load(path)


def test_a_file_that_is_no_cache_is_named(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CacheError, match="is a safetensors file, but not a cache of this version"):
        Cache.load(tmp_path / "model.safetensors")
    (tmp_path / "text").write_bytes(struct.pack("<Q", 10) + b"not json!!")
    with pytest.raises(CacheError, match="not a safetensors file"):
        Cache.load(tmp_path / "text")
    with pytest.raises(CacheError, match="there is no cache file"):
        Cache.load(tmp_path / "nothing")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    run = model_of("llama").run("w5 w6 w7", capture=["z"])
    path = run.cache.save(tmp_path / "cache.safetensors")
    before = path.read_bytes()
    import circuitkit.run.cache as module

    def failing(tensors, target, metadata):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_file", failing)
    with pytest.raises(OSError, match="disk full"):
        run.cache.save(path)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_what_was_not_captured_is_named():
    run = model_of("llama").run("w5 w6 w7", capture=["z[layer=1, head=2]"])
    with pytest.raises(
        CacheError, match=r"z\[layer=1, head=3\] was not captured; this cache holds z\[layer=1, head=2\]"
    ):
        run.cache["z[layer=1, head=3]"]
    assert "z[layer=1, head=3]" not in run.cache
    assert "z[layer=1, head=2, position=-1]" in run.cache
    with pytest.raises(CacheError, match="position 3 does not exist in row 0"):
        run.cache["z[layer=1, head=2, position=3]"]


def test_transformer_lens_names_read_the_same_values():
    prompts = architectures.prompts()
    run = model_of("llama").run(prompts.input_ids, capture=["blocks.1.attn.hook_z", "blocks.1.hook_resid_mid"])
    assert torch.equal(run.cache["blocks.1.attn.hook_z"], run.cache["z[layer=1]"])
    assert torch.equal(run.cache["blocks.1.hook_resid_mid"], run.cache[Site("resid_mid", layer=1)])


def test_only_what_was_named_is_kept():
    prompts = architectures.prompts()
    run = model_of("llama").run(prompts.input_ids, capture=["z[layer=1, head=2, position=-1]"])
    value = run.cache["z[layer=1, head=2, position=-1]"]
    assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


@pytest.mark.parametrize("gradients", [False, True])
def test_a_negative_layer_is_read_back_from_the_run_its_gradients_and_the_file(gradients, tmp_path):
    site = Site("z", layer=-1, head=2)
    run = model_of("llama").run("w5 w6 w7", capture=[Site("z", layer=-1)], logits_at=-1, gradients=gradients)
    assert site in run.cache
    assert torch.equal(run.cache[site], run.cache["z[layer=2, head=2]"])
    again = Cache.load(run.cache.save(tmp_path / "cache.safetensors"))
    assert torch.equal(again[site], run.cache[site])
    if gradients:
        found = run.gradients(run.logits.sum())
        assert torch.equal(found[site], found["z[layer=2, head=2]"])
    for cache_ in (run.cache, again):
        assert Site("z", layer=-2) not in cache_
        with pytest.raises(CacheError, match=r"z\[layer=-4\] does not exist: the model has layers 0 to 2"):
            cache_["z[layer=-4]"]


def test_the_position_before_a_rows_first_token_is_not_its_padding():
    prompts = architectures.prompts("left_padded")
    shortest = int(prompts.real.sum(-1).min())
    kept = whole("left_padded")
    for part in ({"position": -shortest - 1}, {"key": -shortest - 1}):
        with pytest.raises(CacheError, match=f"position {-shortest - 1} does not exist in row 2 of this cache"):
            kept[Site("pattern", layer=1, **part)]
