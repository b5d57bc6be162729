"""The executor equals each cell run alone, whole and from scratch, whatever it saves itself."""

import threading
import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import architectures
import circuitkit as ck
from circuitkit.metrics import Metric, Targets, logit_difference
from circuitkit.model import Tokens
from circuitkit.run import Intervention, InterventionError, batching
from circuitkit.run import base as base_run
from circuitkit.run.executor import measure
from circuitkit.run.interventions import between


def alone(model: ck.Model, tokens: Tokens, targets: Targets, cell: list[Intervention]) -> Tensor:
    """One cell, run by itself and whole."""
    return logit_difference(model.run(tokens, cell, logits_at=-1).logits, targets)


def targets_for(n: int, vocabulary: int = architectures.VOCABULARY) -> Targets:
    ids = torch.randint(5, vocabulary, (n, 2), generator=torch.Generator().manual_seed(1))
    return Targets(ids[:, :1], ids[:, 1:])


def mixed_cells(model: ck.Model, tokens: Tokens, source: Tokens) -> list[list[Intervention]]:
    """Cells of every kind that the model has, at several layers, heads and positions."""
    kinds = [
        kind for kind in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out") if model.layers_with(kind)
    ]
    heads = [kind for kind in ("q", "k", "v", "z", "scores", "pattern") if model.layers_with(kind)]
    kept = model.run(source, capture=[*kinds, *heads, "embed"]).cache
    cells: list[list[Intervention]] = [[], [ck.replace("embed", kept["embed"])]]
    for layer in range(model.n_layers):
        for kind in kinds:
            if layer in model.layers_with(kind):
                cells.append([ck.replace(s := ck.Site(kind, layer=layer, position=-2), kept[s])])
                cells.append([ck.zero(ck.Site(kind, layer=layer, position=1))])
        for kind in heads:
            last = (model.n_kv_heads(layer) if kind in "kv" else model.n_heads(layer)) - 1
            cells.append([ck.replace(s := ck.Site(kind, layer=layer, head=last), kept[s])])
        cells.append([ck.knockout(layer, 0, queries=-1, keys=[0, 1])])
        cells.append([ck.scale(ck.Site("z", layer=layer, head=0), 1.5), ck.add(ck.Site("mlp_out", layer=-1), 0.3)])
    return cells


@pytest.mark.parametrize("name", architectures.NAMES)
@pytest.mark.parametrize("padding", ["equal", "left_padded"])
def test_cells_equal_themselves_run_alone(name, padding):
    hf, _ = architectures.build(name)
    model = ck.Model(hf)
    drawn = architectures.prompts(padding)
    tokens = model.tokens(drawn.input_ids, drawn.attention_mask)
    ids = tokens.ids.clone()
    ids[:, -4] = (ids[:, -4] + 11) % 60 + 5
    cells = mixed_cells(model, tokens, Tokens(ids, tokens.mask))
    targets = targets_for(len(tokens))
    together = measure(model, tokens, targets, logit_difference, cells, progress=False)
    for cell, values in zip(cells, together, strict=True):
        expected = alone(model, tokens, targets, cell)
        torch.testing.assert_close(values, expected, atol=2e-5, rtol=1e-5, msg=lambda m, cell=cell: f"{cell}: {m}")


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    layers=st.integers(1, 4),
    groups=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    lengths=st.lists(st.integers(3, 8), min_size=1, max_size=4),
    corrupted=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_equal_in_double_precision_over_random_shapes(layers, groups, kv_heads, lengths, corrupted, seed):
    torch.manual_seed(seed)
    heads = groups * kv_heads
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=8 * heads,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        initializer_range=0.3,
    )
    model = ck.Model(LlamaForCausalLM(config).double().eval())
    width = max(lengths)
    ids = torch.randint(5, 50, (len(lengths), width))
    mask = torch.tensor([[False] * (width - length) + [True] * length for length in lengths])
    tokens, other = Tokens(ids, mask), Tokens(ids.clone(), mask)
    other.ids[:, -corrupted] = (other.ids[:, -corrupted] + 3) % 50
    kept = model.run(other, capture=["resid_pre", "z", "pattern"]).cache
    cells = [[ck.replace(site, kept[site])] for site in kept]
    cells += [[ck.replace(s := ck.Site("resid_pre", layer=at, position=-1), kept[s])] for at in range(layers)]
    targets = targets_for(len(lengths), 50)
    together = measure(model, tokens, targets, logit_difference, cells, progress=False)
    for cell, values in zip(cells, together, strict=True):
        torch.testing.assert_close(values, alone(model, tokens, targets, cell), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "bloom", "falcon", "gpt_oss", "openelm_style"])
def test_shortcuts_are_taken_where_they_hold(name):
    hf, _ = architectures.build(name)
    model = ck.Model(hf)
    tokens = model.tokens(torch.arange(5, 15)[None])
    ran: list[int] = []
    hooks = [
        block.block.register_forward_pre_hook(
            lambda m, a, k, at=at: ran.append((a or tuple(k.values()))[0].shape[1]), with_kwargs=True
        )
        for at, block in enumerate(model.anatomy.blocks)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure(
            model,
            tokens,
            targets_for(1),
            logit_difference,
            [[ck.zero("resid_pre[layer=2, position=7]")]],
            progress=False,
        )
    for hook in hooks:
        hook.remove()
    assert base_run._trusted[model][1].resume
    if base_run._trusted[model][1].prefix:
        assert ran[-1] == 3, "columns 7, 8 and 9 are run"


def test_an_unchanged_cell_runs_nothing():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.arange(5, 12)[None])
    own = model.run(tokens, capture=["resid_pre"]).cache
    cells = [[ck.replace(s := ck.Site("resid_pre", layer=1, position=p), own[s])] for p in range(7)]
    runs: list[int] = []
    hook = hf.model.register_forward_hook(lambda *a: runs.append(1))
    measure(model, tokens, targets_for(1), logit_difference, cells[:1], progress=False)
    runs.clear()
    values = measure(model, tokens, targets_for(1), logit_difference, cells, progress=False)
    hook.remove()
    assert len(runs) == 1, "the base run alone"
    torch.testing.assert_close(values, alone(model, tokens, targets_for(1), []).expand(7, 1))


@pytest.mark.parametrize("budget", [1, 100_000, None])
def test_the_budget_changes_nothing_but_the_batches(budget):
    hf, _ = architectures.build("gpt2")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 8), generator=torch.Generator().manual_seed(3)))
    cells = [[ck.zero(ck.Site("z", layer=at, head=head))] for at in range(3) for head in range(4)]
    values = measure(model, tokens, targets_for(2), logit_difference, cells, progress=False, budget=budget)
    for cell, value in zip(cells, values, strict=True):
        torch.testing.assert_close(value, alone(model, tokens, targets_for(2), cell), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows_at_once", [1, 2, 4])
def test_prompts_run_in_parts_keep_their_own_values_and_positions(monkeypatch, rows_at_once):
    hf, _ = architectures.build("gemma2")
    model = ck.Model(hf)
    drawn = architectures.prompts("left_padded")
    tokens = model.tokens(drawn.input_ids, drawn.attention_mask)
    n, width = tokens.ids.shape
    other = Tokens((tokens.ids + 7) % 60 + 5, tokens.mask)
    cells = mixed_cells(model, tokens, other)
    kept = model.run(other, capture=["z"]).cache
    by_row = [(row % 2,) for row in range(n)]
    cells += [
        [ck.knockout(1, 0, queries=[(-1,)] * n, keys=by_row)],
        [between(ck.replace("z[layer=1]", kept["z[layer=1]"]), queries=by_row)],
        [ck.attention.force(1, 1, queries=-1, keys=by_row, weight=torch.linspace(0.1, 0.9, n))],
        [ck.add("resid_pre[layer=1, position=-1]", torch.randn(n, model.d_model))],
    ]
    monkeypatch.setattr(batching, "_TOKENS_AT_ONCE_ON_CPU", rows_at_once * width)
    values = measure(model, tokens, targets_for(n), logit_difference, cells, progress=False)
    for cell, measured in zip(cells, values, strict=True):
        expected = alone(model, tokens, targets_for(n), cell)
        torch.testing.assert_close(measured, expected, atol=2e-5, rtol=1e-5, msg=lambda m, cell=cell: f"{cell}: {m}")


def test_a_cell_may_name_nothing_in_some_prompts(monkeypatch):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (4, 6), generator=torch.Generator().manual_seed(3)))
    cell = [ck.knockout(1, queries=[(3,), (), (4,), ()], keys=[(0,), (), (1,), ()])]
    monkeypatch.setattr(batching, "_TOKENS_AT_ONCE_ON_CPU", 6)
    [values] = measure(model, tokens, targets_for(4), logit_difference, [cell], progress=False)
    torch.testing.assert_close(values, alone(model, tokens, targets_for(4), cell), atol=2e-5, rtol=1e-5)
    nowhere = [ck.knockout(1, queries=[()] * 4, keys=[()] * 4)]
    with pytest.raises(InterventionError, match="any of the 4 prompts"):
        measure(model, tokens, targets_for(4), logit_difference, [cell, nowhere], progress=False)


def test_an_error_in_a_part_names_the_row_of_the_whole(monkeypatch):
    hf, _ = architectures.build("gemma2")
    model = ck.Model(hf)
    tokens = model.tokens([[5, 6, 7, 8], [5, 6, 7, 8], [5, 6, 7]])
    monkeypatch.setattr(batching, "_TOKENS_AT_ONCE_ON_CPU", 4)
    with pytest.raises(InterventionError, match="position 3 does not exist in row 2"):
        measure(model, tokens, targets_for(3), logit_difference, [[ck.zero("resid_pre[layer=1, position=3]")]])
    too_few = ck.replace("resid_pre[layer=1, position=0]", torch.zeros(2, model.d_model))
    with pytest.raises(InterventionError, match="2 rows, but the batch has 3"):
        measure(model, tokens, targets_for(3), logit_difference, [[too_few]])


def test_memory_that_a_single_cell_runs_out_of_halves_the_prompts(monkeypatch):
    hf, _ = architectures.build("gpt2")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (5, 8), generator=torch.Generator().manual_seed(3)))
    cells = [[ck.zero(ck.Site("z", layer=1, head=head))] for head in range(4)]
    whole = base_run.Base.run

    def scarce(self, cells, layer, first):
        if len(self.tokens) > 2:
            raise torch.OutOfMemoryError("pretended")
        return whole(self, cells, layer, first)

    monkeypatch.setattr(base_run.Base, "run", scarce)
    with pytest.warns(UserWarning, match="going on with 2 prompts"):
        values = measure(model, tokens, targets_for(5), logit_difference, cells, progress=False)
    monkeypatch.undo()
    for cell, value in zip(cells, values, strict=True):
        torch.testing.assert_close(value, alone(model, tokens, targets_for(5), cell), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("pretended"),
        MemoryError("pretended"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: pretended"),
    ],
)
def test_running_out_of_memory_ends_in_the_right_answer(monkeypatch, error):
    hf, _ = architectures.build("gpt2")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 8), generator=torch.Generator().manual_seed(3)))
    cells = [[ck.zero(ck.Site("z", layer=1, head=head))] for head in range(4)]
    whole = base_run.Base.run

    def scarce(self, cells, layer, first):
        if len(cells) > 1:
            raise error
        return whole(self, cells, layer, first)

    monkeypatch.setattr(base_run.Base, "run", scarce)
    with pytest.warns(UserWarning, match="going on with 2 cells at a time"):
        values = measure(model, tokens, targets_for(2), logit_difference, cells, progress=False)
    monkeypatch.undo()
    for cell, value in zip(cells, values, strict=True):
        torch.testing.assert_close(value, alone(model, tokens, targets_for(2), cell), atol=1e-5, rtol=1e-5)


def test_a_model_that_cannot_resume_runs_whole_and_says_so(monkeypatch):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.arange(5, 12)[None])
    # A model whose resumed run is not its whole one, as if a later layer read what a skipped one leaves behind.
    monkeypatch.setattr(base_run.Base, "_differs", lambda self, layer, first: "pretended")
    cells = [[ck.zero(ck.Site("z", layer=2, head=1))]]
    with pytest.warns(UserWarning, match="every cell is run whole"):
        values = measure(model, tokens, targets_for(1), logit_difference, cells, progress=False)
    torch.testing.assert_close(values[0], alone(model, tokens, targets_for(1), cells[0]), atol=1e-5, rtol=1e-5)


def test_a_cell_that_reaches_nothing_is_an_error():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.arange(5, 12)[None])
    with pytest.raises(InterventionError, match="never took place"):
        measure(model, tokens, targets_for(1), logit_difference, [[ck.zero("z[layer=0]", during="generated")]])


def test_a_metric_of_the_users_own(tmp_path):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.arange(5, 12)[None])
    largest = Metric("largest", lambda logits, targets: logits.amax(-1))
    values = measure(model, tokens, targets_for(1), largest, [[], [ck.zero("mlp_out[layer=1]")]], progress=False)
    torch.testing.assert_close(values[0], model.run(tokens, logits_at=-1).logits.amax(-1), atol=1e-5, rtol=1e-5)
    assert values[0] != values[1]


def test_in_half_precision_a_study_goes_one_way_through_attention():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf.to(torch.bfloat16))
    clean = torch.randint(5, 90, (4, 12), generator=torch.Generator().manual_seed(6))
    corrupt = clean.clone()
    corrupt[:, 3] = 91
    pairs = ck.Pairs(clean, corrupt, torch.full((4,), 7), torch.full((4,), 8))
    result = ck.patching.sweep(model, pairs, over="pattern", progress=False)
    explicit = [ck.scale(ck.Site("pattern", layer=layer), 1.0) for layer in range(3)]
    by_hand = model.run(clean, explicit, logits_at=-1).logits.float()
    torch.testing.assert_close(result.baseline.clean, by_hand[:, 7] - by_hand[:, 8])
    kept = model.run(clean, capture=["pattern"]).cache
    site = ck.Site("pattern", layer=1, head=2)
    patched = model.run(corrupt, [*explicit, ck.replace(site, kept[site])], logits_at=-1).logits.float()
    torch.testing.assert_close(result.per_example[1, 2], patched[:, 7] - patched[:, 8], atol=2e-2, rtol=0)


def test_one_cell_on_a_prefix_resumes_behind_attention():
    hf, _ = architectures.build("gpt2")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 10), generator=torch.Generator().manual_seed(3)))
    cell = [ck.zero("mlp_out[layer=1, position=6]")]
    values = measure(model, tokens, targets_for(2), logit_difference, [cell], progress=False)
    torch.testing.assert_close(values[0], alone(model, tokens, targets_for(2), cell), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "outer", ["resid_pre[layer=1]", "resid_pre[layer=2]", "z[layer=1]", "z[layer=2]", "mlp_out[layer=2]"]
)
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_study_inside_a_context_has_its_interventions_once(name, outer):
    hf, _ = architectures.build(name)
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(3)))
    cells = [[ck.zero(ck.Site("z", layer=2, head=head))] for head in range(4)]
    cells += [[ck.zero("resid_pre[layer=2, position=5]")], [ck.zero("mlp_out[layer=1, position=6]")]]
    with model.intervene([ck.scale(outer, 1.7)]):
        together = measure(model, tokens, targets_for(2), logit_difference, cells, progress=False)
        expected = [alone(model, tokens, targets_for(2), cell) for cell in cells]
    for values, wanted in zip(together, expected, strict=True):
        torch.testing.assert_close(values, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("where", ["block", "after_block", "o", "mlp", "mlp_down"])
@pytest.mark.parametrize("trusted_before", [False, True])
def test_a_users_own_hook_acts_once(where, trusted_before):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(3)))
    cells = [[ck.zero(ck.Site("z", layer=at, head=head))] for at in range(3) for head in range(2)]
    cells += [[ck.zero(f"resid_pre[layer={at}, position=5]")] for at in range(3)]
    if trusted_before:
        measure(model, tokens, targets_for(2), logit_difference, cells, progress=False)
    hooks = []
    for block in model.anatomy.blocks:
        if where == "after_block":
            hooks.append(block.block.register_forward_hook(lambda m, args, out: out * 1.2))
        else:
            module = block.block if where == "block" else getattr(block, where)
            hooks.append(module.register_forward_pre_hook(lambda m, args: (args[0] * 1.2, *args[1:])))
    together = measure(model, tokens, targets_for(2), logit_difference, cells, progress=False)
    expected = [alone(model, tokens, targets_for(2), cell) for cell in cells]
    for hook in hooks:
        hook.remove()
    for values, wanted in zip(together, expected, strict=True):
        torch.testing.assert_close(values, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("where", ["q", "o", "mlp", "attn", "block"])
def test_a_hook_that_comes_and_goes_between_studies_counts(where):
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(3)))
    cells = [[ck.zero(ck.Site("z", layer=at, head=0))] for at in range(3)]

    def compare() -> None:
        together = measure(model, tokens, targets_for(2), logit_difference, cells, progress=False)
        for cell, values in zip(cells, together, strict=True):
            torch.testing.assert_close(values, alone(model, tokens, targets_for(2), cell), atol=2e-5, rtol=1e-5)

    def mix(module, args, output):
        first = output[0] if isinstance(output, tuple) else output
        mixed = first + first.mean(1, keepdim=True)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

    compare()
    hook = getattr(model.anatomy.blocks[-1], where).register_forward_hook(mix)
    with pytest.warns(UserWarning, match="cannot be resumed|a prefix is not its own"):
        compare()
    hook.remove()
    compare()
    assert base_run._trusted[model][1].prefix


def test_what_leaves_a_block_is_edited_before_what_enters_the_next():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(3)))
    vector = torch.randn(32, generator=torch.Generator().manual_seed(4))
    cell = [ck.add("resid_pre[layer=1]", vector), ck.replace("resid_post[layer=0]", 0.5)]
    for order in (cell, cell[::-1]):
        [values] = measure(model, tokens, targets_for(2), logit_difference, [order], progress=False)
        torch.testing.assert_close(values, alone(model, tokens, targets_for(2), order), atol=2e-5, rtol=1e-5)


def test_another_threads_forward_is_its_own():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(3)))
    other = torch.randint(5, 90, (3, 6), generator=torch.Generator().manual_seed(8))
    cells = [[ck.zero(ck.Site("z", layer=at, head=head))] for at in range(3) for head in range(4)]
    plain = hf(other).logits
    wrong: list[float] = []
    done = threading.Event()

    def read_on() -> None:
        while not done.is_set():
            with torch.no_grad():
                wrong.append(float((hf(other).logits - plain).abs().max()))

    reader = threading.Thread(target=read_on)
    reader.start()
    values = [measure(model, tokens, targets_for(2), logit_difference, cells, progress=False) for _ in range(6)]
    done.set()
    reader.join()
    assert len(wrong) > 3 and max(wrong) < 1e-4
    for again in values:
        torch.testing.assert_close(again, values[0])


def test_a_prompt_too_short_for_a_trial_decides_nothing():
    hf, _ = architectures.build("llama")
    model = ck.Model(hf)
    cell = [ck.zero("mlp_out[layer=1]")]
    measure(model, model.tokens([[7]]), targets_for(1), logit_difference, [cell], progress=False)
    assert model not in base_run._trusted
    measure(model, model.tokens([[7, 8, 9]]), targets_for(1), logit_difference, [cell], progress=False)
    assert base_run._trusted[model][1].prefix


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "falcon"])
def test_a_cell_in_a_study_of_its_own_equals_itself_run_alone(name):
    """Beside others a cell takes fewer shortcuts, so each has to be right by itself too."""
    hf, _ = architectures.build(name)
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 6), generator=torch.Generator().manual_seed(3)))
    other = model.tokens(torch.randint(5, 90, (2, 6), generator=torch.Generator().manual_seed(9)))
    for cell in mixed_cells(model, tokens, other):
        [values] = measure(model, tokens, targets_for(2), logit_difference, [cell], progress=False)
        expected = alone(model, tokens, targets_for(2), cell)
        torch.testing.assert_close(values, expected, atol=2e-5, rtol=1e-5, msg=lambda m, cell=cell: f"{cell}: {m}")


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_cells_at_modules_resume_at_their_layer(name):
    hf, _ = architectures.build(name)
    model = ck.Model(hf)
    tokens = model.tokens(torch.randint(5, 90, (2, 9), generator=torch.Generator().manual_seed(3)))
    names = {module: path for path, module in model.anatomy.root.named_modules()}
    paths = [
        names[getattr(block, part)] for block in model.anatomy.blocks for part in ("mlp_down", "o", "block", "ln2")
    ]
    cells = [[ck.scale(ck.Site(module=path, end="input"), 0.5)] for path in paths]
    cells.append([*cells[0], ck.zero(ck.Site("z", layer=2, head=1))])
    together = measure(model, tokens, targets_for(2), logit_difference, cells, progress=False)
    for cell, values in zip(cells, together, strict=True):
        expected = alone(model, tokens, targets_for(2), cell)
        torch.testing.assert_close(values, expected, atol=2e-5, rtol=1e-5, msg=lambda m, cell=cell: f"{cell}: {m}")
    began: list[bool] = []
    hook = model.anatomy.blocks[0].mlp_down.register_forward_hook(lambda *a: began.append(True))
    measure(model, tokens, targets_for(2), logit_difference, [cells[8]], progress=False)
    began.clear()
    measure(model, tokens, targets_for(2), logit_difference, [cells[8]], progress=False)
    hook.remove()
    assert len(began) == 1, "below its layer, the base run alone"
