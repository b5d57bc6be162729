"""Edge scores held against the definition by brute force, TransformerLens, and what must not change them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import circuitkit as ck
from architectures import DECODER, Prompts, build, folder, prompts
from circuitkit import metrics
from circuitkit.circuits.attributing.alignment import Aligned
from circuitkit.pairs import PairError
from circuitkit.spans import Span
from circuits.attributing import brute_force

ANSWER, DISTRACTOR = torch.tensor([[5], [9], [11]]), torch.tensor([[7], [3], [20]])
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
POINTS = {"left": [0, 0.5], "right": [0.5, 1], "midpoint": [0.25, 0.75]}


def batch(of: Prompts) -> tuple[Tensor, Tensor]:
    return of.input_ids, of.attention_mask


def drawn(kind: str = "left_padded", n: int = 2, length: int = 6) -> tuple[Prompts, Prompts]:
    return prompts(kind, batch=n, length=length), prompts(kind, batch=n, length=length, seed=1)


def pairs_of(clean: Prompts, corrupt: Prompts, **more) -> ck.Pairs:
    n = len(clean.input_ids)
    return ck.Pairs(clean.texts, corrupt.texts, **{"answer": ANSWER[:n], "distractor": DISTRACTOR[:n], **more})


def difference(logits: Tensor) -> Tensor:
    last, n = logits[:, -1], len(logits)
    return (last.gather(-1, ANSWER[:n]) - last.gather(-1, DISTRACTOR[:n]))[:, 0]


def scores(model: ck.Model, pairs: ck.Pairs, method: str = "eap", **more) -> Tensor:
    return ck.circuits.attribute(model, pairs, method=method, progress=False, **more).per_example


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen3", "gemma2"])
def test_scores_are_those_of_a_copy_per_destination(name):
    hf, words = build(name)
    model, (clean, corrupt) = ck.Model(hf, words), drawn()
    pairs = pairs_of(clean, corrupt)
    by_point = {
        alpha: brute_force.edge_scores(hf, name, batch(clean), batch(corrupt), difference, [alpha])
        for alpha in (0, 0.25, 0.5, 0.75, 1)
    }
    torch.testing.assert_close(scores(model, pairs), by_point[1], **CLOSE)
    for rule, points in POINTS.items():
        expected = torch.stack([by_point[alpha] for alpha in points]).mean(0)
        torch.testing.assert_close(scores(model, pairs, "eap-ig", steps=2, rule=rule), expected, **CLOSE)
    torch.testing.assert_close(scores(model, pairs, "clean-corrupted"), (by_point[0] + by_point[1]) / 2, **CLOSE)


@pytest.mark.parametrize("name", ["gpt_neox", "falcon_multi_query", "olmo2"])
def test_parallel_multi_query_and_norms_behind_alone_are_right(name):
    hf, words = build(name)
    clean, corrupt = drawn()
    expected = brute_force.edge_scores(hf, name, batch(clean), batch(corrupt), difference, POINTS["midpoint"])
    found = scores(ck.Model(hf, words), pairs_of(clean, corrupt), "eap-ig", steps=2, rule="midpoint")
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "falcon_multi_query"])
def test_scores_over_activations_go_each_groups_own_way(name):
    hf, words = build(name)
    clean, corrupt = drawn("equal", n=1, length=4)
    expected = brute_force.activation_scores(hf, name, batch(clean), batch(corrupt), difference, POINTS["right"])
    found = scores(ck.Model(hf, words), pairs_of(clean, corrupt), "eap-ig-activations", steps=2, rule="right")
    torch.testing.assert_close(found, expected, **CLOSE)


class Odd(nn.Module):
    """A norm that is in no closed form that is known."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, stream: Tensor) -> Tensor:
        return torch.tanh(self.whole(stream)) + 0.1 * stream


@pytest.mark.parametrize("name", ["llama", "falcon_multi_query"])
def test_norms_that_are_not_known_are_gone_back_through_by_autograd(name):
    hf, words = build(name)
    blocks = hf.model.layers if name == "llama" else hf.transformer.h
    blocks[1].input_layernorm = Odd(blocks[1].input_layernorm)
    clean, corrupt = drawn()
    expected = brute_force.edge_scores(hf, name, batch(clean), batch(corrupt), difference, POINTS["left"])
    model = ck.Model(hf.requires_grad_(True), words)
    for checkpointing in (False, True):
        found = scores(model, pairs_of(clean, corrupt), "eap-ig", steps=2, checkpointing=checkpointing)
        torch.testing.assert_close(found, expected, **CLOSE)


def test_scores_are_minus_those_of_transformer_lens_with_the_runs_exchanged(tmp_path):
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch
    from transformers import AutoTokenizer

    hf, words = build("gpt2")
    clean, corrupt = drawn("equal", n=1, length=5)
    graph = ck.circuits.attribute(ck.Model(hf, words), pairs_of(clean, corrupt), method="eap", progress=False)
    saved = str(folder("gpt2", tmp_path))
    bridge = TransformerBridge.boot_transformers(
        saved, device="cpu", dtype=torch.float32, tokenizer=AutoTokenizer.from_pretrained(saved)
    )
    # It takes the gradient in the run that it calls corrupt, and the difference towards the other.
    result = attribution_patch(
        bridge,
        corrupt.input_ids,
        clean.input_ids,
        lambda logits: difference(logits)[0],
        EdgeAttributionConfig(granularity="edge"),
    )
    theirs = torch.zeros_like(graph.scores)
    kinds = {"q_input": "<q>", "k_input": "<k>", "v_input": "<v>"}

    def name(node) -> str:
        if node.kind in ("embed", "logits"):
            return "input" if node.kind == "embed" else "logits"
        return f"a{node.layer}.h{node.head}{kinds.get(node.kind, '')}" if node.head is not None else f"m{node.layer}"

    for (writer, reader), score in result.edge_scores.items():
        theirs[graph.layout.source(name(writer)), graph.layout.destination(name(reader))] += score
    assert float(theirs.abs().max()) > 0.1
    torch.testing.assert_close(graph.scores, -theirs, atol=1e-4, rtol=1e-4)


def test_neither_padding_nor_batches_nor_checkpointing_change_scores():
    hf, words = build("qwen3")
    model, (clean, corrupt) = ck.Model(hf, words), drawn(n=3, length=9)
    pairs = pairs_of(clean, corrupt)
    whole = scores(model, pairs, "eap-ig", steps=2)
    for more in ({"batch_size": 2}, {"checkpointing": True}):
        torch.testing.assert_close(scores(model, pairs, "eap-ig", steps=2, **more), whole, **CLOSE)
    for row in range(3):
        alone = ck.Pairs([clean.texts[row]], [corrupt.texts[row]], ANSWER[row : row + 1], DISTRACTOR[row : row + 1])
        torch.testing.assert_close(scores(model, alone, "eap-ig", steps=2)[0], whole[row], **CLOSE)


@pytest.mark.parametrize("method", ["eap-ig", "eap-ig-activations"])
def test_layers_can_be_computed_again_in_a_thread_of_autograds(method, monkeypatch):
    hf, words = build("gpt2")
    model, pairs = ck.Model(hf, words), pairs_of(*drawn(length=4))
    expected = scores(model, pairs, method, steps=2)
    back = torch.autograd.grad

    def elsewhere(*args, **kwargs):
        # As on a GPU, whose backward is not run by the thread that asks for it.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(back, *args, **kwargs).result()

    monkeypatch.setattr(torch.autograd, "grad", elsewhere)
    torch.testing.assert_close(scores(model, pairs, method, steps=2, checkpointing=True), expected, **CLOSE)


def test_layers_are_computed_again_without_the_cache_that_a_model_would_fill():
    from transformers import GraniteMoeConfig, GraniteMoeForCausalLM

    torch.manual_seed(0)
    hf = GraniteMoeForCausalLM(GraniteMoeConfig(**DECODER, num_local_experts=2, num_experts_per_tok=1)).eval()
    model, pairs = ck.Model(hf, build("llama")[1]), pairs_of(*drawn(length=4))
    torch.testing.assert_close(scores(model, pairs, checkpointing=True), scores(model, pairs), **CLOSE)


def test_less_memory_gives_the_same_scores(monkeypatch):
    hf, words = build("olmo2")
    model, pairs = ck.Model(hf, words), pairs_of(*drawn(length=4))
    whole = {method: scores(model, pairs, method, steps=2) for method in ("eap-ig", "eap-ig-activations")}
    for module in ("contraction", "reading"):
        monkeypatch.setattr(f"circuitkit.circuits.attributing.{module}.memory", lambda model, budget: 1)
    for method, expected in whole.items():
        torch.testing.assert_close(scores(model, pairs, method, steps=2, batch_size=2), expected, **CLOSE)


@pytest.mark.parametrize("name", ["gemma2", "olmo2"])
def test_norms_that_compute_in_single_precision_are_known_in_double(name):
    (hf, words), (clean, corrupt) = build(name), drawn("equal")
    hf = hf.double()
    expected = brute_force.edge_scores(hf, name, batch(clean), batch(corrupt), difference, POINTS["left"]).float()
    found = scores(ck.Model(hf, words), pairs_of(clean, corrupt), "eap-ig", steps=2)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_half_precision_scores_are_near_and_weights_keep_asking_for_gradients():
    hf, words = build("llama")
    pairs = pairs_of(*drawn("equal", n=1))
    exact = scores(ck.Model(hf, words), pairs, "eap-ig")
    half = build("llama")[0].bfloat16().requires_grad_(True)
    found = scores(ck.Model(half, words), pairs, "eap-ig")
    assert float(torch.corrcoef(torch.stack([found.flatten(), exact.flatten()]))[0, 1]) > 0.98
    assert all(parameter.requires_grad and parameter.grad is None for parameter in half.parameters())


def test_what_is_alike_in_both_prompts_stays_as_it_is_on_the_way_between_them():
    hf, words = build("gpt2")
    aligned = Aligned.of(ck.Model(hf, words), pairs_of(*drawn()), metrics.logit_difference)
    stream = torch.randn(2, 6, 8).bfloat16()
    for alpha in (0.2, 0.7):
        assert aligned.between(stream, stream.clone(), alpha).equal(stream)


def test_adapters_are_part_of_what_heads_read_and_write():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    hf, words = build("llama")
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False)
    adapted = get_peft_model(hf, config).eval()
    pairs = pairs_of(*drawn())
    found = scores(ck.Model(adapted, words), pairs, "eap-ig", steps=2)
    torch.testing.assert_close(
        found, scores(ck.Model(adapted.merge_and_unload(), words), pairs, "eap-ig", steps=2), **CLOSE
    )


def test_positions_and_examples_join_as_they_are_named():
    hf, words = build("gpt2")
    clean, corrupt = drawn("equal", n=2, length=4)
    model, pairs = ck.Model(hf, words), pairs_of(clean, corrupt)
    expected = brute_force.edge_scores(hf, "gpt2", batch(clean), batch(corrupt), difference, [0, 0.5], positions=True)
    settings = {"method": "eap-ig", "steps": 2, "progress": False}
    spans = {"first": Span.at(0), "rest": Span.at(1, 2, 3), "last": Span.at(-1)}
    graph = ck.circuits.attribute(model, pairs, **settings, spans=spans)
    torch.testing.assert_close(graph.scores, expected.sum(1).mean(0), **CLOSE)
    torch.testing.assert_close(graph.by_span["last"], expected[:, -1].mean(0), **CLOSE)
    torch.testing.assert_close(graph.by_span["first"] + graph.by_span["rest"], graph.scores, **CLOSE)
    magnitudes = ck.circuits.attribute(model, pairs, **settings, examples="mean-absolute")
    torch.testing.assert_close(magnitudes.scores, expected.sum(1).abs().mean(0), **CLOSE)
    torch.testing.assert_close(magnitudes.per_example, expected.sum(1), **CLOSE)
    by_token = ck.circuits.attribute(model, pairs, **settings, positions="sum-absolute", keep_examples=False)
    torch.testing.assert_close(by_token.scores, expected.abs().sum(1).mean(0), **CLOSE)
    assert by_token.per_example is None and by_token.convention.positions == "sum-absolute"


@pytest.mark.parametrize("metric", ["kl", "cross_entropy", "log_probability"])
def test_divergences_and_whole_answers_are_measured(metric):
    hf, words = build("llama")
    clean, corrupt = drawn("equal", n=2, length=5)
    answer = torch.tensor([[5, 8], [9, 4]])
    model, pairs = ck.Model(hf, words), pairs_of(clean, corrupt, answer=answer, distractor=None)
    ours, theirs = batch(clean), batch(corrupt)
    if metric == "kl":
        reference = hf(input_ids=ours[0]).logits[:, -1].log_softmax(-1).detach()

        def measure(logits):
            return (reference.exp() * (reference - logits[:, -1].log_softmax(-1))).sum(-1)
    else:
        # The prompt runs on with the answer's first token, and both of its tokens are read.
        ours, theirs = (
            (torch.cat([ids, answer[:, :1]], 1), torch.cat([mask, torch.ones(2, 1)], 1)) for ids, mask in (ours, theirs)
        )

        def measure(logits):
            read = logits[:, -2:].log_softmax(-1).gather(-1, answer[..., None])[..., 0].sum(-1)
            return -read / 2 if metric == "cross_entropy" else read

    expected = brute_force.edge_scores(hf, "llama", ours, theirs, measure, [0, 0.5])
    graph = ck.circuits.attribute(model, pairs, metric, steps=2, progress=False)
    torch.testing.assert_close(graph.per_example, expected, **CLOSE)
    assert graph.convention.higher_is_better is metrics.METRICS[metric].higher_is_better


def test_pairs_of_unequal_lengths_align_by_their_ends_or_by_spans():
    hf, words = build("gpt2")
    model = ck.Model(hf, words)
    clean, corrupt = ["w9 w5 w6 w7", "w9 w5 w5 w6 w7"], ["w9 w20 w21 w6 w8 w7", "w9 w30 w6 w7"]
    pairs = ck.Pairs(clean, corrupt, ANSWER[:2], DISTRACTOR[:2])
    ours, theirs = model.tokens(clean), model.tokens(corrupt)
    ends = torch.tensor([[-1, 0, -1, -1, 5], [2, -1, -1, 4, 5]])
    spans = torch.tensor([[-1, -1, -1, 3, 5], [-1, -1, 3, 4, 5]])
    spans[1, 2] = -1
    both = (ours.ids, ours.mask), (theirs.ids, theirs.mask)
    for align, at in (("common", ends), ([Span.of_text("w6"), (Span.of_text("w7"), Span.at(-1))], spans)):
        expected = brute_force.edge_scores(hf, "gpt2", *both, difference, [0, 0.5], at)
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(scores(model, pairs, "eap-ig", steps=2, align=align), expected, **CLOSE)


def test_pairs_that_do_not_align_are_refused_by_name():
    hf, words = build("gpt2")
    model = ck.Model(hf, words)

    def asked(clean: str, corrupt: str, **more) -> None:
        scores(model, ck.Pairs(["w9 w9", clean], ["w9 w9", corrupt], ANSWER[:2], DISTRACTOR[:2]), **more)

    with pytest.raises(PairError, match="pair 1 has a clean prompt of 3 tokens and a corrupt one of 2"):
        asked("w3 w4 w5", "w3 w4")
    with pytest.raises(ck.circuits.CircuitError, match="pair 1 neither begins nor ends alike"):
        asked("w3 w4 w5", "w6 w7", align="common")
    with pytest.raises(ck.circuits.CircuitError, match="not 'both'"):
        asked("w3 w4", "w3 w4", align="both")
    with pytest.raises(ck.circuits.CircuitError, match="names no spans"):
        asked("w3 w4", "w3 w4", align=[])
    nine = Span.of_text("w9", None)
    with pytest.raises(ck.circuits.CircuitError, match="3 tokens in the clean prompt of pair 1"):
        asked("w9 w9 w9", "w9 w9", align=[nine])
    with pytest.raises(ck.circuits.CircuitError, match="position 0 of the clean prompt of pair 0 lies in two"):
        asked("w9 w9", "w9 w9", align=[nine, Span.at(0)])
    with pytest.raises(ck.circuits.CircuitError, match=r"corrupt prompts lack span 'w9' \[0\]: row 1"):
        asked("w9 w4", "w3 w4", align=[Span.of_text("w9")])
    with pytest.raises(ck.circuits.CircuitError, match="span 'nine' of the scores to keep: row 1"):
        asked("w3 w4", "w3 w4", spans={"nine": Span.of_text("w9")})
    tokens = torch.tensor([[3, 4, 0, 5]])
    with pytest.raises(ck.circuits.CircuitError, match="pad token at position 2"):
        scores(model, ck.Pairs(tokens, tokens, ANSWER[:1], DISTRACTOR[:1]))


def test_what_is_asked_wrongly_is_refused_by_name():
    hf, words = build("gpt2")
    model, pairs = ck.Model(hf, words), pairs_of(*drawn("equal"))
    for asked, match in (
        ({"method": "acdc"}, "there is no method 'acdc'; the methods are eap, "),
        ({"rule": "middle"}, "not 'middle'"),
        ({"steps": 0}, "at least, not 0"),
        ({"examples": "median"}, "not 'median'"),
        ({"positions": "mean"}, "not 'mean'"),
        ({"batch_size": 0}, "1 or more, not 0"),
        ({"batch_size": 1.5}, "1 or more, not 1.5"),
        ({"steps": 2.0}, "at least, not 2.0"),
        ({"spans": {"first": "w5"}}, r"spans= names spans .*got \['w5'\]"),
        ({"spans": [Span.at(0)]}, r"spans= names spans .*got \[Span\(0\)\]"),
        ({"align": Span.at(0)}, r"a list of spans .*not Span\(0\)"),
        ({"align": ["w5"]}, r"a list of spans .*not \['w5'\]"),
        ({"method": "exact", "edges": ["input->logits"]}, "a mask of edges .*'input->logits'"),
    ):
        with pytest.raises(ck.circuits.CircuitError, match=match):
            ck.circuits.attribute(model, pairs, progress=False, **asked)

    def a_scalar(logits, targets):
        return logits.sum()

    def no_gradient(logits, targets):
        return logits.argmax(-1).float()

    def infinite(logits, targets):
        return (logits[:, 0] - logits[:, 0].detach()).abs().sqrt()

    with pytest.raises(ValueError, match="'a_scalar' must give one value per example"):
        ck.circuits.attribute(model, pairs, a_scalar, progress=False)
    with pytest.raises(ck.circuits.CircuitError, match="'no_gradient' gives values without a gradient"):
        ck.circuits.attribute(model, pairs, no_gradient, progress=False)
    with pytest.raises(ck.circuits.CircuitError, match=r"gradient at .* holds NaN"):
        ck.circuits.attribute(model, pairs, infinite, progress=False)


def test_models_that_cannot_be_scored_are_refused_by_name():
    hf, words = build("gpt2")
    model, pairs = ck.Model(hf, words), pairs_of(*drawn("equal"))
    hf.train()
    with pytest.raises(ck.run.InterventionError, match="dropout"):
        scores(model, pairs)
    hf.eval()
    held = pytest.raises(ck.circuits.CircuitError, match=r"intervention at mlp_out\[layer=1\] is held")
    with held, model.intervene([ck.zero("mlp_out[layer=1]")]):
        scores(model, pairs)
    with torch.inference_mode(), pytest.warns(UserWarning, match="gradient of kl vanishes in the clean run"):
        assert float(ck.circuits.attribute(model, pairs, "kl", "eap", progress=False).scores.abs().max()) < 1e-5
    whole = hf.transformer.h[1].mlp
    hf.transformer.h[1].mlp.forward = lambda stream: stream.detach()
    with pytest.raises(ck.circuits.CircuitError, match=r"the MLP reads in layer 1 of .* gets no gradient"):
        scores(model, pairs)
    del whole.forward
    hf.transformer.h[2].mlp.c_proj.weight.data[:] = float("nan")
    with pytest.raises(ck.circuits.CircuitError, match="logits of row 0 hold NaN"):
        scores(model, pairs)
