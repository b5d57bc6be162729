"""The nnsight engine against the local one: the same runs, interventions and studies, to 1e-5."""

import io
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.special
import torch
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.schema.request import RequestModel
from torch import Tensor
from transformers import GenerationConfig

import architectures
import circuitkit as ck
from circuitkit.interop.nnsight import EngineError, NnsightModel
from circuitkit.interop.nnsight.limits import REFUSALS
from circuitkit.interop.nnsight.sending import is_there, modules_of
from circuitkit.interop.nnsight.structure import Structure
from circuitkit.model.anatomy import dissect
from circuitkit.model.loading import LoadError
from circuitkit.model.points import Columns
from circuitkit.model.site import ATTENTION_KINDS, HEAD_KINDS, KINDS, Site, SiteError
from circuitkit.model.tokens import PromptError
from circuitkit.run.executor import logits_read, measure
from circuitkit.run.interventions import Intervention, InterventionError

NAMES = ("llama", "gpt2", "gemma2", "qwen2")
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "padding"), [("llama", "equal"), *((name, "left_padded") for name in NAMES)])
def test_every_kind_and_operation_is_that_of_the_local_engine(both, name: str, kind: str, padding: str) -> None:
    local, engine = both(name)
    tokens = tokens_of(local, padding)
    if kind != "embed" and not local.layers_with(kind):
        with pytest.raises(SiteError, match=kind):
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


@pytest.mark.parametrize(
    ("name", "padding", "remote"),
    [("llama", "equal", "local"), ("gemma2", "equal", False), *((name, "left_padded", False) for name in NAMES)],
)
def test_knockouts_are_those_of_the_local_engine(both, name: str, padding: str, remote: bool | str) -> None:
    local, engine = both(name, remote)
    tokens = tokens_of(local, padding)
    by_row = [(-1,), (-1, -2), (0, -1)]
    for interventions in (
        [ck.knockout(0, queries=-1, keys=[0, 1])],
        [ck.knockout(1, head=2, queries=by_row, keys=[(0,), (), (0, 1)])],
        # A query without any key attends to nothing.
        [ck.knockout(1, queries=-1), ck.scale("pattern[layer=2]", 0.5)],
        [ck.zero("z[layer=1, head=3]"), ck.knockout(1, head=3), ck.add("resid_mid[layer=0]", 0.2)],
    ):
        mine = engine.run(
            tokens, interventions, capture=["pattern", "z[head=2]", "pattern[layer=1, position=-1, key=0]"]
        )
        theirs = local.run(
            tokens, interventions, capture=["pattern", "z[head=2]", "pattern[layer=1, position=-1, key=0]"]
        )
        agree(mine.logits, theirs.logits)
        for site in theirs.cache:
            agree(mine.cache[site], theirs.cache[site])


@pytest.mark.parametrize("name", sorted(set(architectures.ZOO) - set(NAMES)))
def test_every_other_architecture_has_the_sites_that_the_documentation_tells(name: str, tmp_path: Path) -> None:
    folder = architectures.folder(name, tmp_path)
    local = ck.load(folder, attn_implementation="eager")
    engine = ck.load(folder, attn_implementation="eager", engine="nnsight")
    tokens = tokens_of(local, "left_padded")
    for kind in KINDS:
        whole = Site(kind) if kind == "embed" else Site(kind, layer=LAYER)
        if kind in absent(name):
            with pytest.raises(SiteError, match=kind):
                engine.run(tokens, [ck.scale(whole, 1.5)])
            continue
        theirs = local.run(tokens, [ck.scale(whole, 1.5)], capture=[whole])
        mine = engine.run(tokens, [ck.scale(whole, 1.5)], capture=[whole])
        agree(mine.logits, theirs.logits)
        agree(mine.cache[whole], theirs.cache[whole])


DOCUMENTATION = Path(__file__).parents[2] / "docs" / "nnsight.md"


def absent(name: str) -> set[str]:
    """The kinds that the documentation's table denies an architecture; none where it does not name it."""
    lines = DOCUMENTATION.read_text(encoding="utf-8").splitlines()
    row = next((line for line in lines if line.startswith("|") and f"`{name}`" in line), "||")
    return {kind for kind in KINDS if f"`{kind}`" in row.rstrip("|").rpartition("|")[2]}


def test_the_documentation_tells_every_refusal() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for what, why in REFUSALS.items():
        assert f"| {what} | {why} |" in text


def test_modules_and_fused_attention(both) -> None:
    local, engine = both("llama", "local", "sdpa")
    tokens = tokens_of(local, "left_padded")
    gate = Site(module="model.layers.1.mlp.gate_proj")
    norm = Site(module="model.norm", end="input")
    interventions = [
        ck.scale(gate.at(position=-1), 2.0),
        ck.add(norm, drawn(32)),
        ck.zero("resid_post[layer=0, position=1]"),
    ]
    theirs = local.run(tokens, interventions, capture=[gate, norm.at(position=-1), "mlp_out"])
    mine = engine.run(tokens, interventions, capture=[gate, norm.at(position=-1), "mlp_out"])
    agree(mine.logits, theirs.logits)
    for site in theirs.cache:
        agree(mine.cache[site], theirs.cache[site])


@pytest.mark.parametrize(("name", "remote"), [("llama", "local"), *((name, False) for name in NAMES)])
def test_generation_is_that_of_the_local_engine(both, name: str, remote: bool | str) -> None:
    local, engine = both(name, remote)
    tokens = tokens_of(local, "left_padded")
    settings = {"max_new_tokens": 6, "do_sample": False}
    plain = engine.generate(tokens, **settings)
    assert torch.equal(plain, local.generate(tokens, **settings))
    changed = False
    for interventions in (
        [ck.add("resid_post[layer=1]", 3 * drawn(32), during="generated")],
        [ck.scale("mlp_out[layer=0]", -1.0, during="prompt")],
        [ck.zero("z[layer=1, head=1]"), ck.scale("attn_out[layer=0, position=-1]", 2.5)],
        # Absolute positions go on counting behind the prompt: the longest has nine tokens, the shortest two.
        [ck.zero("resid_pre[layer=1, position=5]")],
    ):
        with local.intervene(interventions):
            theirs = local.generate(tokens, **settings)
        with engine.intervene(interventions):
            mine = engine.generate(tokens, **settings)
        assert torch.equal(mine, theirs)
        changed |= not torch.equal(theirs, plain)
    assert changed


def test_contexts_nest_and_end(both) -> None:
    local, engine = both("llama")
    tokens = tokens_of(local, "equal")
    outer, inner = [ck.scale("mlp_out[layer=1]", 0.5)], [ck.add("mlp_out[layer=1]", 0.3)]
    with engine.intervene(outer):
        mine = engine.run(tokens, inner, logits_at=-1).logits
    agree(mine, local.run(tokens, [*outer, *inner], logits_at=-1).logits)
    agree(engine.run(tokens).logits, local.run(tokens).logits)


# Studies


def pairs_of(length: int = 7, answers: int = 1, distractor: bool = True) -> ck.Pairs:
    ids = torch.randint(3, 96, (4, length), generator=torch.Generator().manual_seed(5))
    corrupt = ids.clone()
    corrupt[:, 2] = ids[:, 2].roll(1)
    answer, other = [torch.randint(3, 96, (4, answers), generator=torch.Generator().manual_seed(s)) for s in (6, 7)]
    return ck.Pairs(ids, corrupt, answer=answer, distractor=other if distractor else None)


def largest_gap(logits, targets):
    """A metric of one's own, of torch alone."""
    best = torch.topk(logits, 2, dim=-1).values
    return (best[:, 0] - best[:, 1]) * (targets.answer[:, 0] % 2 + 1)


STUDIES = {
    "heads": lambda model: ck.patching.sweep(model, pairs_of(), over="z", progress=False),
    "stream, noised": lambda model: ck.patching.sweep(
        model, pairs_of(), over="resid_pre", direction="noise", metric="probability", progress=False
    ),
    "patterns at a query": lambda model: ck.patching.sweep(
        model, pairs_of(), over="pattern", positions=[-1], metric="kl", progress=False
    ),
    "answers of two tokens": lambda model: ck.patching.sweep(
        model, pairs_of(answers=2, distractor=False), over="mlp_out", metric="log_probability", progress=False
    ),
    "a mean": lambda model: ck.patching.sweep(model, pairs_of(), over="k", source="mean", progress=False),
    "own metric": lambda model: ck.ablation.sweep(model, pairs_of(), metric=largest_gap, progress=False),
    "heads to the mean": lambda model: ck.ablation.sweep(model, pairs_of(), how="mean", progress=False),
    "heads resampled": lambda model: ck.ablation.sweep(model, pairs_of(), how="resample", progress=False),
    "prompts alone": lambda model: ck.ablation.sweep(model, architectures.prompts().input_ids, progress=False),
}


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("name", NAMES)
def test_studies_are_those_of_the_local_engine(both, name: str, study: str) -> None:
    # Some take the way of a remote run.
    local, engine = both(name, "local" if study in ("heads", "own metric", "a mean") else False)
    # Few rows at once split cells and prompts in the middle.
    for engine.rows_at_once in (3, 64) if (study, name) == ("heads", "llama") else (64,):
        theirs, mine = STUDIES[study](local), STUDIES[study](engine)
        assert mine.axes == theirs.axes
        torch.testing.assert_close(mine.per_example, theirs.per_example, atol=TOLERANCE, rtol=1e-5, equal_nan=True)
        torch.testing.assert_close(mine.baseline.clean, theirs.baseline.clean, atol=TOLERANCE, rtol=1e-5)
    assert float(theirs.per_example.nan_to_num().std()) > 1e-4


# The other side


class FarSide:
    """A process without circuitkit that has a checkpoint, and all that was sent there and came back."""

    def __init__(self, folder: Path) -> None:
        script = Path(__file__).with_name("far_side_process.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.sent: list[bytes] = []
        self.returned: list[dict[str, Any]] = []

    def request(self, request: RequestModel, tracer: Any) -> dict[str, Any]:
        blob = RequestModel.serialize(tracer, request.compress)
        self.sent.append(RequestModel.serialize(tracer, False))
        for content in (request.metadata().encode(), blob):
            self.process.stdin.write(len(content).to_bytes(8, "big") + content)
        self.process.stdin.flush()
        length = int.from_bytes(self.process.stdout.read(8), "big")
        told = torch.load(io.BytesIO(self.process.stdout.read(length)), weights_only=False)
        if isinstance(told, str):
            raise RuntimeError(told)
        self.returned.append(told)
        return told


@pytest.fixture(scope="module")
def far_side(folders: dict[str, Path]) -> Iterator[FarSide]:
    there = FarSide(folders["llama"])
    yield there
    there.process.stdin.close()
    there.process.wait(timeout=30)


def test_a_process_without_circuitkit_gives_the_same(far_side, folders, monkeypatch) -> None:
    monkeypatch.setattr(RemoteBackend, "request", far_side.request)
    monkeypatch.setattr(TransformersModel, "to_model_key", lambda self: "a checkpoint there")
    local = ck.load(folders["llama"], attn_implementation="eager")
    engine = ck.load(folders["llama"], attn_implementation="eager", engine="nnsight", remote="http://far.side.invalid")
    assert isinstance(engine, NnsightModel)
    tokens = tokens_of(local, "left_padded")
    interventions = [
        ck.scale("q[layer=0, head=1]", 1.5),
        ck.knockout(1, queries=-1, keys=0),
        ck.zero("mlp_out[layer=2]"),
    ]
    theirs = local.run(tokens, interventions, capture=["z[position=-1]", "pattern[head=1]"], logits_at=-1)
    mine = engine.run(tokens, interventions, capture=["z[position=-1]", "pattern[head=1]"], logits_at=-1)
    agree(mine.logits, theirs.logits)
    for site in theirs.cache:
        agree(mine.cache[site], theirs.cache[site])
    with local.intervene(interventions[2:]), engine.intervene(interventions[2:]):
        settings = {"max_new_tokens": 4, "do_sample": False}
        assert torch.equal(engine.generate(tokens, **settings), local.generate(tokens, **settings))
    far_side.returned.clear()
    aligned = pairs_of().on(local)
    cells = [[ck.zero(Site("z", layer=1, head=head))] for head in range(4)]
    for metric in map(ck.metrics.as_metric, (largest_gap, "kl", "logit_difference")):
        clean = logits_read(engine, aligned.clean, aligned.targets, metric)
        targets = replace(aligned.targets, clean_logits=clean)
        mine, theirs = (
            measure(model, aligned.corrupt, targets, metric, cells, progress=False) for model in (engine, local)
        )
        agree(mine, theirs)
        # A number for each cell and example, and whether a logit was spoilt; nothing else comes back.
        assert {"values", "spoilt"} == set(far_side.returned[-1]["told"])
        assert far_side.returned[-1]["told"]["values"].shape == (16,)
    needed = set().union(*(modules_of(each) for each in far_side.sent))
    assert all(is_there(name) for name in needed), needed
    assert {parameter.device.type for parameter in engine.traced._module.parameters()} == {"meta"}


# What is found out from a config


def located(model: ck.Model, layers: Any) -> list[dict[str, Any]]:
    """Each layer's heads and points, by module paths and plain numbers."""
    paths = {module: path for path, module in model.hf.named_modules()}

    def view(view: Any) -> Any:
        return (view.index.tolist(), view.n_heads) if isinstance(view, Columns) else view

    return [
        {
            "heads": (layer.n_heads, layer.n_kv_heads, layer.d_head),
            **{kind: (paths[point.module], point.end, view(point.view)) for kind, point in layer.points.items()},
        }
        for layer in layers
    ]


@pytest.mark.parametrize("name", sorted(architectures.ZOO))
def test_a_config_alone_tells_what_the_weights_tell(name: str) -> None:
    hf, _ = architectures.build(name)
    with torch.device("meta"):
        skeleton = type(hf)(hf.config)
    there, here = ck.Model(skeleton), ck.Model(hf)
    assert located(there, Structure.of(dissect(skeleton, None)).layers) == located(here, here.layers)


def test_a_config_that_does_not_tell_is_refused() -> None:
    hf, _ = architectures.build("openelm_style")
    with pytest.raises(EngineError, match="OpenELMForCausalLM cannot be told from its config"):
        Structure.of(dissect(hf, None))


def test_a_wide_model_is_told_without_its_weights() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(hidden_size=16384, num_attention_heads=128, num_key_value_heads=8, num_hidden_layers=126)
    with torch.device("meta"):
        skeleton = LlamaForCausalLM(config)
    layers = Structure.of(dissect(skeleton, None)).layers
    assert len(layers) == 126
    assert (layers[125].n_heads, layers[125].n_kv_heads, layers[125].d_head) == (128, 8, 128)


# What is refused, before anything runs


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a trace was begun")

    monkeypatch.setattr(TransformersModel, "trace", run)
    monkeypatch.setattr(TransformersModel, "generate", run)


@pytest.mark.usefixtures("nothing_runs")
def test_what_cannot_be_done_is_said_before_running(both) -> None:
    _, engine = both("llama")
    _, fused = both("llama", False, "sdpa")
    tokens = tokens_of(engine, "equal")
    with pytest.raises(EngineError, match="its modules are not here: use"):
        engine(tokens.ids)
    with pytest.raises(EngineError, match="gradients is not possible"):
        engine.run(tokens, gradients=True)
    with pytest.raises(EngineError, match=r"pattern\[layer=0\].*attn_implementation='eager'"):
        fused.run(tokens, capture=["pattern"])
    with pytest.raises(EngineError, match=r"scores\[layer=1\].*attn_implementation='eager'"):
        fused.run(tokens, [ck.knockout(1)])
    with pytest.raises(EngineError, match="attn_implementation='eager'"):
        ck.patching.sweep(fused, pairs_of(), over="pattern", progress=False)
    with pytest.raises(EngineError, match="force is not possible"):
        engine.run(tokens, [ck.attention.force(1, 0, queries=-1, keys=0, weight=0.5)])
    with pytest.raises(EngineError, match="capture in a context"):
        engine.intervene((), capture=["z"])
    with engine.intervene([ck.knockout(1)]), pytest.raises(EngineError, match="attention while generating"):
        engine.generate(tokens, max_new_tokens=3)
    with engine.intervene([ck.zero("mlp_out[layer=1]")]):
        with pytest.raises(EngineError, match="say max_new_tokens"):
            engine.generate(tokens)
        with pytest.raises(EngineError, match="num_beams=3"):
            engine.generate(tokens, max_new_tokens=3, num_beams=3)
        with pytest.raises(EngineError, match="study within intervene"):
            ck.ablation.sweep(engine, pairs_of(), progress=False)
    with pytest.raises(EngineError, match="own hooks"):
        engine.tapped({}, lambda: None)
    with (
        pytest.raises(InterventionError, match="never took place"),
        engine.intervene([ck.zero("mlp_out[layer=1]", during="generated")]),
    ):
        engine.generate(tokens, max_new_tokens=1)
    with pytest.raises(SiteError, match="head 9 does not exist"):
        engine.run(tokens, [ck.zero("z[layer=1, head=9]")])
    with pytest.raises(PromptError, match="position 40 does not exist"):
        engine.run(tokens, [ck.zero("mlp_out[layer=1, position=40]")])
    with pytest.raises(InterventionError, match="does not fit"):
        engine.run(tokens, [ck.replace("z[layer=1, head=1]", torch.zeros(5))])


def test_remote_without_an_engine_is_told_what_it_lacks(folders) -> None:
    for remote in (True, "local"):
        with pytest.raises(LoadError, match="give engine='nnsight' with it"):
            ck.load(folders["llama"], remote=remote)


@pytest.mark.usefixtures("nothing_runs")
def test_what_needs_weights_or_more_than_ids_is_refused_before_running(both) -> None:
    _, engine = both("llama")
    tokens = tokens_of(engine, "equal")
    with pytest.raises(EngineError, match="own modules is not possible"):
        ck.lens.logit_lens(engine, tokens)
    with pytest.raises(EngineError, match="own modules is not possible"):
        ck.lens.direct_logits(engine, pairs_of())
    with pytest.raises(EngineError, match="a bridge is made over weights, which are not here"):
        engine.to_transformer_lens()
    asked = GenerationConfig(return_dict_in_generate=True)
    for settings in ({"return_dict_in_generate": True}, {"generation_config": asked}):
        with pytest.raises(EngineError, match="token ids alone come back"):
            engine.generate(tokens, max_new_tokens=2, **settings)


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("n_examples", [1, 3, 17])
def test_metrics_that_mix_rows_are_refused_before_they_are_sent(n_examples, both) -> None:
    _, engine = both("llama")
    ids = torch.randint(3, 30, (n_examples, 5), generator=torch.Generator().manual_seed(0))
    targets = ck.metrics.Targets(torch.full((n_examples, 1), 3))
    centred = ck.metrics.as_metric(lambda logits, targets: logits[:, 0] - logits[:, 0].mean())
    with pytest.raises(ValueError, match="depend on nothing but that row"):
        measure(engine, engine.tokens(ids), targets, centred, [[], [ck.zero("mlp_out[layer=1]")]], progress=False)


def test_studies_that_need_the_weights_are_refused(both) -> None:
    _, engine = both("llama")
    with pytest.raises(EngineError, match=r"capture in a context|own modules"):
        ck.patching.paths(engine, pairs_of(), [Site("z", layer=0)], [Site("q", layer=2)], progress=False)


@pytest.mark.usefixtures("nothing_runs")
def test_metrics_are_tried_before_they_are_sent(both) -> None:
    _, engine = both("llama")
    ids = architectures.prompts().input_ids
    targets = ck.metrics.Targets(torch.tensor([[3, 4]] * 3))
    cells = [[ck.zero("mlp_out[layer=1]")]]
    with pytest.raises(ValueError, match="reads one token"):
        engine.measure(engine.tokens(ids), targets, ck.metrics.probability, cells)
    with pytest.raises(ValueError, match="one value per example"):
        engine.measure(engine.tokens(ids), targets, ck.metrics.as_metric(lambda logits, targets: logits), cells)
    with pytest.raises(EngineError, match=r"needs scipy, which is not where the model is"):
        engine.measure(engine.tokens(ids), targets, ck.metrics.as_metric(entropy_by_scipy), cells)


def entropy_by_scipy(logits, targets):
    """A metric that leans on a module which is only here."""
    return torch.from_numpy(scipy.special.entr(logits.softmax(-1).numpy()).sum(-1))


def test_loading_says_what_is_wrong(folders) -> None:
    with pytest.raises(LoadError, match="there is no engine 'vllm'"):
        ck.load(folders["llama"], engine="vllm")
    with pytest.raises(LoadError, match="NDIF runs models of the hub"):
        ck.load(folders["llama"], engine="nnsight", remote=True)
    with pytest.raises(LoadError, match="remote is False, True, 'local' or a host"):
        ck.load(folders["llama"], engine="nnsight", remote="ndif")
    with pytest.raises(LoadError, match="is built here"):
        ck.load("planted-induction-llama", engine="nnsight")
    with pytest.raises(LoadError, match="give engine='nnsight' with it"):
        ck.load(folders["llama"], remote="local")
