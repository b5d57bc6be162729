"""The nnsight engine against the local one: the same runs, interventions and studies, to 1e-5."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit.interop.nnsight import EngineError, NnsightModel
from circuitkit.interop.nnsight.structure import Structure
from circuitkit.model.anatomy import dissect
from circuitkit.model.points import Columns
from circuitkit.model.site import ATTENTION_KINDS, HEAD_KINDS, KEY_VALUE_KINDS, KINDS, Site
from circuitkit.run.interventions import Intervention

NAMES = ("llama", "gpt2", "gemma2", "qwen2", "gpt_neox")
TOLERANCE = 1e-5
LAYER = 1



@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each architecture's tiny checkpoint, as it would lie on the hub."""
    where = tmp_path_factory.mktemp("checkpoints")
    return {name: architectures.folder(name, where) for name in NAMES}


@pytest.fixture(scope="module")
def both(folders: dict[str, Path]):
    """The local model and the engine, each made once."""
    made: dict[tuple[str, str, object], tuple[ck.Model, NnsightModel]] = {}

    def of(name: str, remote: bool | str = False, attention: str = "eager") -> tuple[ck.Model, NnsightModel]:
        if (name, attention, remote) not in made:
            local = ck.load(folders[name], attn_implementation=attention)
            engine = ck.load(folders[name], attn_implementation=attention, engine="nnsight", remote=remote)
            assert isinstance(engine, NnsightModel)
            made[name, attention, remote] = (local, engine)
        return made[name, attention, remote]

    return of


def agree(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, atol=TOLERANCE, rtol=0.0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


def interventions_at(model: ck.Model, kind: str, tokens) -> dict[str, list[Intervention]]:
    """Every operation at a kind, whole and by head, position and key."""
    whole = Site(kind) if kind == "embed" else Site(kind, layer=LAYER)
    seen = model.run(tokens, capture=[whole]).cache[whole]
    other = seen.flip(0) if not tokens.padded else seen + drawn(*seen.shape)
    made = {
        "replace": [ck.replace(whole, other)],
        "zero": [ck.zero(whole)],
        "scale": [ck.scale(whole, 1.7)],
        "add": [ck.add(whole, drawn(seen.shape[-1]))] if kind not in ATTENTION_KINDS else [ck.add(whole, 0.1)],
        "at the last": [ck.scale(whole.at(position=-1), 0.5)],
        "at the first": [ck.zero(whole.at(position=0))],
        "one after another": [ck.scale(whole, 0.5), ck.add(whole.at(position=-2), 0.3)],
    }
    if kind not in ATTENTION_KINDS:
        made["mean"] = [ck.mean(whole, seen.mean((0, 1)))]
        made["replace at one"] = [ck.replace(whole.at(position=-1), other[:, -1])]
    if kind in HEAD_KINDS:
        head = whole.at(head=1)
        made["a head"] = [ck.scale(head, 1.5)]
        made["a head at a position"] = [ck.add(head.at(position=-1), 0.7)]
        axis = 1 if kind in ATTENTION_KINDS else 2
        made["a head replaced"] = [ck.replace(head, other.select(axis, 1))]
    if kind in ATTENTION_KINDS:
        made["an edge"] = [ck.zero(whole.at(head=0, position=-1, key=0))]
    return made


def tokens_of(model: ck.Model, padding: str):
    prompts = architectures.prompts(padding)
    return model.tokens(prompts.input_ids, prompts.attention_mask)


@pytest.mark.parametrize("padding", ["equal", "left_padded"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_and_operation_is_that_of_the_local_engine(both, name: str, kind: str, padding: str) -> None:
    local, engine = both(name)
    tokens = tokens_of(local, padding)
    if kind != "embed" and not local.layers_with(kind):
        with pytest.raises(ck.model.SiteError, match=kind):
            engine.sites(kind)
        return
    unchanged, changed = engine.run(tokens).logits, list[bool]()
    for what, interventions in interventions_at(local, kind, tokens).items():
        mine = engine.run(tokens, interventions, capture=[kind, "resid_post"])
        theirs = local.run(tokens, interventions, capture=[kind, "resid_post"])
        assert list(mine.cache) == list(theirs.cache), what
        agree(mine.logits, theirs.logits)
        for site in theirs.cache:
            agree(mine.cache[site], theirs.cache[site])
        changed.append(not torch.equal(mine.logits, unchanged))
    # Some of them are known to do nothing: a number added to all scores, a query at the first position.
    assert sum(changed) > len(changed) / 2
