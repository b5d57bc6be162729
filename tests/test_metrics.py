"""The metrics against closed forms and PyTorch's own losses, and what they refuse."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

import circuitkit as ck
from circuitkit.metrics import METRICS, PADDING, Metric, Targets, as_metric

METRIC_NAMES = ["logit_difference", "probability", "kl", "cross_entropy", "log_probability"]


def logits_and_targets(batch: int, width: int, vocab: int, seed: int) -> tuple[torch.Tensor, Targets]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, width, vocab, generator=generator) * 4
    answer = torch.randint(vocab, (batch, width), generator=generator)
    return logits, Targets(answer, torch.randint(vocab, (batch, 1), generator=generator))


def test_kl_of_a_known_pair_of_distributions() -> None:
    clean, patched = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.25, 0.5]])
    targets = Targets(torch.tensor([[0]]), clean_logits=clean.log())
    # 0.5 log 2 + 0 − 0.25 log 2, a sum over the vocabulary: a mean would be a third of it
    assert ck.metrics.kl(patched.log(), targets).item() == pytest.approx(0.25 * 0.6931471805599453, abs=1e-6)


@given(st.integers(1, 5), st.integers(2, 40), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_kl_agrees_with_scipy_and_is_zero_only_at_the_clean_run(batch: int, vocab: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    clean, patched = torch.randn(2, batch, vocab, generator=generator) * 3
    targets = Targets(torch.zeros(batch, 1, dtype=torch.long), clean_logits=clean)
    oracle = stats.entropy(clean.double().softmax(-1), patched.double().softmax(-1), axis=-1)
    assert torch.allclose(ck.metrics.kl(patched, targets).double(), torch.tensor(oracle), atol=1e-4)
    assert ck.metrics.kl(clean, targets).abs().max() < 1e-6


def test_kl_ignores_tokens_that_the_clean_run_rules_out_and_keeps_a_finite_gradient() -> None:
    clean = torch.tensor([[0.0, 0.0, -torch.inf]])
    patched = torch.tensor([[0.3, 0.1, -torch.inf]]).requires_grad_()
    value = ck.metrics.kl(patched, Targets(torch.tensor([[0]]), clean_logits=clean))
    expected = stats.entropy([0.5, 0.5], torch.tensor([0.3, 0.1]).softmax(-1))
    assert value.item() == pytest.approx(expected, abs=1e-6)
    (gradient,) = torch.autograd.grad(value.sum(), patched)
    assert gradient[:, :2].isfinite().all() and gradient[0, 1] < 0 < gradient[0, 0]


@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 30), st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_answer_metrics_agree_with_pytorchs_cross_entropy(batch: int, width: int, vocab: int, seed: int) -> None:
    logits, targets = logits_and_targets(batch, width, vocab, seed)
    per_token = F.cross_entropy(logits.transpose(1, 2), targets.answer, reduction="none")
    assert torch.allclose(ck.metrics.log_probability(logits, targets), -per_token.sum(1), atol=1e-4)
    assert torch.allclose(ck.metrics.cross_entropy(logits, targets), per_token.mean(1), atol=1e-4)


def test_padding_behind_a_shorter_answer_counts_for_nothing() -> None:
    logits, _ = logits_and_targets(2, 3, 11, seed=0)
    ragged = Targets(torch.tensor([[1, 2, 3], [4, PADDING, PADDING]]))
    alone = ck.metrics.log_probability(logits[1:, :1], Targets(torch.tensor([[4]])))
    assert ck.metrics.log_probability(logits, ragged)[1] == pytest.approx(alone.item(), abs=1e-6)
    loss = ck.metrics.cross_entropy(logits, ragged)
    assert loss[1] == pytest.approx(-alone.item(), abs=1e-6)


def test_probability_and_log_probability_agree_on_one_token() -> None:
    logits, targets = logits_and_targets(6, 1, 9, seed=3)
    whole = ck.metrics.log_probability(logits, targets).exp()
    assert torch.allclose(ck.metrics.probability(logits[:, 0], targets), whole)


def test_logit_difference_reads_answer_less_distractor() -> None:
    targets = Targets(torch.tensor([[2], [0]]), torch.tensor([[0], [1]]))
    values = ck.metrics.logit_difference(torch.tensor([[1.0, 0.0, 5.0], [1.0, 4.0, 9.0]]), targets)
    assert values.tolist() == [4.0, -3.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32(dtype: torch.dtype) -> None:
    logits = (torch.randn(3, 500, generator=torch.Generator().manual_seed(0)) * 8).to(dtype)
    targets = Targets(torch.tensor([[1], [2], [3]]), torch.tensor([[4], [5], [6]]), logits.flip(0))
    for name in METRIC_NAMES:
        metric = METRICS[name]
        values = metric(logits, targets)
        wide = Targets(targets.answer, targets.distractor, targets.clean_logits.float())
        assert values.dtype == torch.float32
        assert torch.equal(values, metric(logits.float(), wide)), name


def test_float64_stays_float64() -> None:
    assert ck.metrics.probability(torch.zeros(1, 2).double(), Targets(torch.tensor([[0]]))).dtype == torch.float64


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_gradients_flow(name: str) -> None:
    logits = torch.randn(2, 7, requires_grad=True)
    clean = torch.randn(2, 7)
    value = METRICS[name](logits, Targets(torch.tensor([[1], [2]]), torch.tensor([[3], [4]]), clean))
    value.sum().backward()
    assert logits.grad is not None and logits.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["logit_difference", "probability"])
def test_an_answer_of_several_tokens_is_refused_by_its_name(name: str) -> None:
    targets = Targets(torch.tensor([[5, PADDING], [5, 6]]), torch.tensor([[1], [2]]), answer_text=("cat", "wumpus"))
    with pytest.raises(ValueError, match=r"wumpus.*\[5, 6\].*log_probability"):
        METRICS[name](torch.zeros(2, 9), targets)


def test_a_padded_answer_of_one_token_is_one_token() -> None:
    padded = Targets(torch.tensor([[1, PADDING]]))
    assert ck.metrics.probability(torch.zeros(1, 4), padded).item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("name", "logits", "targets", "message"),
    [
        ("logit_difference", torch.zeros(1, 3), Targets(torch.tensor([[0]])), "needs a distractor"),
        ("kl", torch.zeros(1, 3), Targets(torch.tensor([[0]])), "clean_logits"),
        ("kl", torch.zeros(1, 3), Targets(torch.tensor([[0]]), clean_logits=torch.zeros(1, 4)), "shape"),
        ("probability", torch.zeros(1, 3), Targets(torch.tensor([[3]])), "token 3 lies outside"),
        ("probability", torch.zeros(2, 3), Targets(torch.tensor([[0]])), r"got shape \(2, 3\)"),
        ("log_probability", torch.zeros(1, 3, 5), Targets(torch.tensor([[0, 1]])), "answer_len=2"),
        ("probability", torch.full((1, 3), torch.nan), Targets(torch.tensor([[0]])), "is NaN for examples"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, logits: torch.Tensor, targets: Targets, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        METRICS[name](logits, targets)
    assert name in str(refusal.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"answer": torch.tensor([1, 2])}, r"ids\[:, None\]"),
        ({"answer": torch.tensor([[1.0]])}, "token ids"),
        ({"answer": torch.tensor([[PADDING, 3]])}, "without tokens"),
        ({"answer": torch.tensor([[1]]), "distractor": torch.tensor([[1], [2]])}, "differ in their number"),
    ],
)
def test_targets_that_make_no_sense_are_refused(fields: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Targets(**fields)


def test_a_plain_function_is_a_metric_and_is_held_to_its_shape() -> None:
    def top_logit(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        return logits.amax(-1)

    def forgot_the_batch(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        return logits.amax()

    def broken(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        return logits[:, 0] * torch.nan

    targets = Targets(torch.tensor([[0], [0]]))
    logits = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    assert as_metric(top_logit)(logits, targets).tolist() == [2.0, 4.0]
    with pytest.raises(ValueError, match=r"'forgot_the_batch' must give one value per example"):
        as_metric(forgot_the_batch)(logits, targets)
    with pytest.raises(ValueError, match=r"'broken' is NaN for examples \[0, 1\]"):
        as_metric(broken)(logits, targets)


def test_metrics_go_by_name_and_travel_to_other_processes() -> None:
    assert as_metric("kl") is ck.metrics.kl
    assert as_metric(ck.metrics.kl) is ck.metrics.kl
    assert pickle.loads(pickle.dumps(ck.metrics.log_probability)) == ck.metrics.log_probability
    with pytest.raises(ValueError, match="unknown metric 'logit_diff'; there are logit_difference"):
        as_metric("logit_diff")
    assert "KL(clean || patched)" in (ck.metrics.kl.__doc__ or "")


def test_what_a_metric_reads_is_declared() -> None:
    reads = {name: (METRICS[name].positions, METRICS[name].needs_clean) for name in METRIC_NAMES}
    assert reads == {
        "logit_difference": ("last", False),
        "probability": ("last", False),
        "kl": ("last", True),
        "cross_entropy": ("answer", False),
        "log_probability": ("answer", False),
    }
    assert Metric("own", lambda logits, targets: logits[:, 0]).positions == "last"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_selecting_targets_commutes_with_measuring(rows: list[int]) -> None:
    logits, targets = logits_and_targets(4, 1, 6, seed=1)
    logits = logits[:, 0]
    targets = Targets(targets.answer, targets.distractor, logits.roll(1, 0), tuple("abcd"))
    index = torch.tensor(rows)
    for name in METRIC_NAMES:
        picked = METRICS[name](logits[index], targets.select(index))
        assert torch.allclose(picked, METRICS[name](logits, targets)[index], atol=1e-6), name
    assert targets.select(index).answer_text == tuple("abcd"[row] for row in rows)


def test_a_metric_says_which_way_is_worse() -> None:
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"kl", "cross_entropy"}
    sure, wrong = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    targets = Targets(answer=torch.tensor([[0]]), distractor=torch.tensor([[1]]), clean_logits=sure)
    for metric in METRICS.values():
        assert bool(metric(sure, targets) > metric(wrong, targets)) == metric.higher_is_better


OWN = torch.tensor([5, 1, 3, 2])


@pytest.mark.parametrize(
    "mixing",
    [
        lambda logits, targets: (logits - logits.mean(0))[:, 5],
        lambda logits, targets: (logits[:, 5] - logits[:, 4]) / logits.std(),
        lambda logits, targets: logits[torch.arange(len(logits)), OWN],
        lambda logits, targets: logits[:, 0] - OWN,
    ],
)
@pytest.mark.parametrize("n", [4, 3, 8])
def test_a_metric_that_mixes_rows_is_refused(mixing, n: int) -> None:
    logits, targets = logits_and_targets(n, 1, 6, seed=3)
    with pytest.raises(ValueError, match=r"metric '<lambda>' .* may depend on nothing but that row"):
        as_metric(mixing)(logits, targets)


def test_a_study_names_a_metric_that_mixes_rows() -> None:
    clean, corrupt = torch.tensor([[6, 7, 8]] * 4), torch.tensor([[6, 9, 8], [6, 10, 8], [6, 11, 8], [6, 12, 8]])
    pairs = ck.Pairs(clean, corrupt, [[5], [6], [7], [8]])
    with pytest.raises(ValueError, match="read what an example needs from targets"):
        ck.patching.sweep(
            ck.load("deductor-5k"), pairs, "z", lambda logits, targets: logits[torch.arange(4), OWN], progress=False
        )


@given(st.integers(2, 6), st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_a_metric_of_each_row_alone_is_taken_whatever_its_size(n: int, size: float) -> None:
    logits, targets = logits_and_targets(n, 1, 50, seed=n)
    for own in (
        lambda logits, targets: logits.softmax(-1).gather(-1, targets.answer)[:, 0],
        lambda logits, targets: logits.logsumexp(-1) - logits.gather(-1, targets.answer)[:, 0],
        lambda logits, targets: (logits @ torch.linspace(-1, 1, 50)) * 1e3,
        lambda logits, targets: torch.where(logits.argmax(-1) == targets.answer[:, 0], torch.inf, 0.0),
    ):
        assert as_metric(own)(logits * size, targets).shape == (n,)


def test_a_metric_that_runs_out_of_memory_says_so() -> None:
    def spent(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
        raise torch.OutOfMemoryError("as if")

    with pytest.raises(torch.OutOfMemoryError):
        as_metric(spent)(*logits_and_targets(2, 1, 6, seed=0))
