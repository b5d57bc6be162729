"""The logit lens and direct logits against the models' own modules and weights, on every architecture that has them."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.model import SiteError, planted
from circuitkit.pairs import PairError

POST_NORMED = {"gemma2", "gemma3", "olmo2"}


def drawn(n: int = 3, length: int = 6) -> ck.Pairs:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(5, architectures.VOCABULARY, (n, length), generator=generator)
    ids = torch.stack([torch.randperm(80, generator=generator)[:2] + 5 for _ in range(n)])
    return ck.Pairs(tokens, tokens.flip(1), ids[:, 0], ids[:, 1])


def streams(hf, tokens) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    hooks = [layer.register_forward_hook(lambda m, a, out: kept.append(out.clone())) for layer in hf.model.layers]
    hf(tokens)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_the_lens_is_the_models_own_ending(name):
    hf, _ = architectures.build(name)
    tokens = drawn().clean
    lens = ck.lens.logit_lens(ck.Model(hf), tokens, position=None)
    for layer, stream in enumerate(streams(hf, tokens)):
        logits = hf.lm_head(hf.model.norm(stream))
        if name == "gemma2":
            logits = 4.0 * torch.tanh(logits / 4.0)
        torch.testing.assert_close(lens.logits[layer], logits, atol=1e-5, rtol=1e-4)
    last = ck.lens.logit_lens(ck.Model(hf), tokens, layers=[1])
    torch.testing.assert_close(last.logits[0], lens.logits[1, :, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", architectures.NAMES)
def test_the_last_layer_says_what_the_model_says(name):
    hf, _ = architectures.build(name)
    model, tokens = ck.Model(hf), drawn().clean
    lens = ck.lens.logit_lens(model, tokens, layers=[-1])
    torch.testing.assert_close(lens.logits[0], model.run(tokens, logits_at=-1).logits, atol=1e-5, rtol=1e-4)


def test_frames_and_ranks_of_padded_prompts():
    hf, tokenizer = architectures.build("llama")
    model = ck.Model(hf, tokenizer)
    rows = [[5, 6, 7, 8], [9, 10]]
    lens = ck.lens.logit_lens(model, rows)
    for row, ids in enumerate(rows):
        alone = ck.lens.logit_lens(model, [ids])
        torch.testing.assert_close(lens.logits[:, row], alone.logits[:, 0], atol=1e-5, rtol=1e-4)
    likeliest = lens.logits.argmax(-1)
    assert lens.frame["token"].tolist() == likeliest.flatten().tolist()
    assert (lens.ranks(likeliest[1])[1] == 0).all()
    worst = lens.logits[2].argmin(-1)
    assert (lens.ranks(worst)[2] == architectures.VOCABULARY - 1).all()
    everywhere = ck.lens.logit_lens(model, rows, position=None)
    assert len(everywhere.frame) == 3 * 6 and everywhere.frame["position"].max() == 3


@pytest.mark.parametrize("name", [name for name in architectures.NAMES if name not in POST_NORMED])
def test_shares_sum_to_the_logit_difference(name):
    hf, _ = architectures.build(name)
    pairs = drawn()
    shares = ck.lens.direct_logits(ck.Model(hf), pairs)
    logits, rows = hf(pairs.clean).logits[:, -1], torch.arange(3)
    expected = logits[rows, pairs.answer] - logits[rows, pairs.distractor]
    torch.testing.assert_close(shares.logit_difference, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shares.total, expected, atol=2e-5, rtol=1e-4)
    assert float(shares.frame["mean"].sum()) == pytest.approx(float(expected.mean()), abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_heads_share_is_its_write_through_the_frozen_norm(name):
    hf, _ = architectures.build(name)
    pairs = drawn()
    shares = ck.lens.direct_logits(ck.Model(hf), pairs)
    llama = name == "llama"
    blocks = hf.model.layers if llama else hf.transformer.h
    kept: dict[str, torch.Tensor] = {}
    projection = blocks[1].self_attn.o_proj if llama else blocks[1].attn.c_proj
    norm = hf.model.norm if llama else hf.transformer.ln_f
    hooks = [
        projection.register_forward_pre_hook(lambda m, args: kept.update(z=args[0].clone())),
        norm.register_forward_pre_hook(lambda m, args: kept.update(last=args[0].clone())),
    ]
    hf(pairs.clean)
    for hook in hooks:
        hook.remove()
    weight = projection.weight.T if llama else projection.weight
    unembedding = hf.get_output_embeddings().weight
    between = unembedding[pairs.answer] - unembedding[pairs.distractor]
    last = kept["last"][:, -1]
    for head in range(4):
        written = kept["z"][:, -1, 8 * head : 8 * head + 8] @ weight[8 * head : 8 * head + 8]
        if llama:
            through = written / (last.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
        else:
            centred = written - written.mean(-1, keepdim=True)
            through = centred / (last.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        expected = (through * norm.weight * between).sum(-1)
        torch.testing.assert_close(shares.heads[1, head], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"), [("gemma2", "final_logit_softcapping=4.0"), ("olmo2", "a norm stands between")]
)
def test_shares_that_would_not_be_exact_are_refused(name, message):
    hf, _ = architectures.build(name)
    with pytest.raises(SiteError, match=message):
        ck.lens.direct_logits(ck.Model(hf), drawn())


def test_pairs_without_a_difference_are_refused():
    hf, _ = architectures.build("llama")
    pairs = drawn()
    with pytest.raises(PairError, match="give distractors"):
        ck.lens.direct_logits(ck.Model(hf), ck.Pairs(pairs.clean, pairs.corrupt, pairs.answer))
    with pytest.raises(PairError, match="one token each"):
        several = pairs.answer[:, None].repeat(1, 2)
        ck.lens.direct_logits(ck.Model(hf), ck.Pairs(pairs.clean, pairs.corrupt, several, pairs.distractor))


@pytest.mark.parametrize("name", planted.names())
def test_planted_heads_that_write_the_answer_have_the_shares(name):
    plant = planted.build(name)
    shares = ck.lens.direct_logits(ck.load(name), ck.Pairs(*plant.pairs(8, seed=3, length=14)))
    means = shares.heads.mean(-1)
    strongest = {(int(at) // 8, int(at) % 8) for at in means.flatten().topk(2).indices}
    # Heads that others read write nothing that is unembedded, and the decoy nothing that is read at all.
    assert strongest == {plant.circuit[plant.primary], plant.saturated}
    assert abs(means[plant.decoy]) < 0.05 * means[plant.saturated]


def test_models_that_run_whole_have_the_same_lens():
    hf, _ = architectures.build("llama")
    tokens = drawn().clean
    resumed = ck.lens.logit_lens(ck.Model(hf), tokens).logits
    hf.config.num_kv_shared_layers = 1
    torch.testing.assert_close(ck.lens.logit_lens(ck.Model(hf), tokens).logits, resumed, atol=1e-5, rtol=1e-4)


def test_shares_in_half_and_double_precision():
    pairs = drawn()
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float64, 1e-10)):
        hf, _ = architectures.build("gpt2")
        shares = ck.lens.direct_logits(ck.Model(hf.to(dtype)), pairs)
        scale = float(shares.heads.abs().max())
        torch.testing.assert_close(
            shares.total.double(), shares.logit_difference.double(), atol=tolerance * scale, rtol=0
        )


def test_shares_of_padded_prompts_are_those_of_each_alone():
    hf, tokenizer = architectures.build("gpt2")
    model, rows = ck.Model(hf, tokenizer), ["w5 w6 w7 w8", "w9 w10"]
    together = ck.lens.direct_logits(model, ck.Pairs(rows, rows, [" w20", " w21"], [" w30", " w31"]))
    for row, text in enumerate(rows):
        alone = ck.lens.direct_logits(model, ck.Pairs([text], [text], [f" w{20 + row}"], [f" w{30 + row}"]))
        torch.testing.assert_close(together.heads[..., row], alone.heads[..., 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.total[row], alone.total[0], atol=1e-5, rtol=1e-4)
    assert alone.frame["low"].isna().all()
