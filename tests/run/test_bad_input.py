"""Bad input gets an error that names what was wrong and what to do."""

import warnings
from functools import cache

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit import Model, Site
from circuitkit.model import SiteError
from circuitkit.model.tokens import PromptError
from circuitkit.run import CacheError, InterventionError


@cache
def model_of(name: str) -> Model:
    return Model(*architectures.build(name))


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("z[layer=1, head=4]", "head 4 does not exist: layer 1 has heads 0 to 3"),
        ("k[layer=1, head=2]", "head 2 does not exist: layer 1 has key/value heads 0 to 1"),
        ("pattern[layer=0, head=9]", "head 9 does not exist: layer 0 has heads 0 to 3"),
        ("z[layer=3]", "layer 3 does not exist: .* has layers 0 to 2"),
        ("z[layer=-4]", "layer -4 does not exist"),
        ("resid_posts", "'resid_posts' names no site: give a kind"),
        ("blocks.0.hook_nothing", "names no site"),
        (Site(module="model.layers.1.attention"), "has no module 'model.layers.1.attention'; print"),
    ],
)
def test_a_site_that_does_not_exist_is_named(site, message):
    prompts = architectures.prompts()
    with pytest.raises(SiteError, match=message):
        model_of("llama").run(prompts.input_ids, capture=[site])
    with pytest.raises(SiteError, match=message):
        model_of("llama").run(prompts.input_ids, [ck.zero(site)])


def test_heads_are_counted_layer_by_layer():
    model, prompts = model_of("openelm_style"), architectures.prompts()
    assert model.run(prompts.input_ids, capture=["z[layer=1, head=5]"]).cache["z[layer=1, head=5]"].shape == (3, 9, 8)
    with pytest.raises(SiteError, match="head 5 does not exist: layer 0 has heads 0 to 3"):
        model.run(prompts.input_ids, capture=["z[layer=0, head=5]"])
    with pytest.raises(SiteError, match="layer 0 has heads 0 to 3"):
        model.run(prompts.input_ids, capture=["z[head=5]"])


def test_a_parallel_block_has_no_middle():
    with pytest.raises(
        SiteError, match=r"no layer of .* has resid_mid: attention and MLP read the same stream \(parallel\)"
    ):
        model_of("gpt_neox").run(architectures.prompts().input_ids, capture=["resid_mid"])


@pytest.mark.parametrize("position", [4, -5, 9])
def test_a_position_beyond_a_row_is_named(position):
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    row = "row 1" if position == 9 else "row 2"
    row = "row 0" if position == 9 else row
    message = f"position {position} does not exist in {row}, which has {9 if position == 9 else 4} real tokens"
    settings = {"attention_mask": prompts.attention_mask}
    for kind in ("z", "resid_mid", "pattern"):
        site = Site(kind, layer=0, position=position)
        with pytest.raises(PromptError, match=message):
            model.run(prompts.input_ids, [ck.zero(site)], **settings)
        with pytest.raises(PromptError, match=message):
            model.run(prompts.input_ids, capture=[site], **settings)
    with pytest.raises(PromptError, match=message):
        model.run(prompts.input_ids, [ck.knockout(0, keys=[position])], **settings)
    with pytest.raises(PromptError, match=message):
        model.run(prompts.input_ids, logits_at=position, **settings)


@pytest.mark.parametrize(
    ("site", "shape"),
    [
        ("z[layer=1]", (7,)),
        ("z[layer=1, head=1]", (3, 9, 7)),
        ("z[layer=1, head=1]", (3, 9, 4, 8)),
        ("resid_pre[layer=1]", (2, 9, 32)),
        ("resid_pre[layer=1, position=-1]", (3, 9, 32)),
        ("pattern[layer=1]", (3, 2, 9, 9)),
    ],
)
def test_a_value_of_the_wrong_shape_is_named(site, shape):
    with pytest.raises(
        InterventionError, match=r"a value of shape .* does not fit .*, whose whole tensor is \[batch=3, "
    ):
        model_of("llama").run(architectures.prompts().input_ids, [ck.replace(site, torch.zeros(shape))])


def test_a_value_with_other_positions_than_the_prompt_is_named():
    with pytest.raises(
        InterventionError, match=r"the value for resid_pre\[layer=1\] has 8 positions, the prompt has 9"
    ):
        model_of("llama").run(
            architectures.prompts().input_ids, [ck.replace("resid_pre[layer=1]", torch.zeros(3, 8, 32))]
        )


def test_a_mean_with_a_batch_axis_is_refused():
    with pytest.raises(InterventionError, match="a mean has no batch axis"):
        ck.mean("z[layer=1]", torch.zeros(3, 9, 4, 8))


def test_values_that_are_no_number_are_refused():
    with pytest.raises(InterventionError, match="holds NaN"):
        ck.replace("z[layer=1]", torch.full((8,), torch.nan))
    with pytest.raises(InterventionError, match="holds NaN"):
        ck.scale("z[layer=1]", float("nan"))
    with pytest.raises(InterventionError, match="during is 'prompt', 'generated' or 'both'"):
        ck.zero("z[layer=1]", during="decoding")


def test_prompts_that_cannot_be_run_are_named():
    model = model_of("llama")
    with pytest.raises(PromptError, match="there are no prompts"):
        model.run([])
    with pytest.raises(PromptError, match="there are no prompts"):
        model.run(torch.zeros(0, 4, dtype=torch.long))
    with pytest.raises(PromptError, match="prompt 1 is empty"):
        model.run(["w5", ""])
    with pytest.raises(PromptError, match="prompt 0 is empty"):
        model.run(torch.zeros(1, 0, dtype=torch.long))
    with pytest.raises(PromptError, match=r"prompt 1 has 70 tokens, but the model's context holds 64: shorten it by 6"):
        model.run(["w5", "w6 " * 70])
    with pytest.raises(PromptError, match="all text or all token ids"):
        model.run(["w5", [6, 7]])
    with pytest.raises(PromptError, match="token ids are integers"):
        model.run(torch.zeros(1, 3))
    with pytest.raises(PromptError, match=r"attention_mask is \[1, 2\], the token ids are \[1, 3\]"):
        model.run(torch.ones(1, 3, dtype=torch.long), attention_mask=torch.ones(1, 2))
    with pytest.raises(PromptError, match="padding between real tokens"):
        model.run(torch.full((1, 4), 5), attention_mask=torch.tensor([[1, 0, 0, 1]]))


def test_text_without_a_tokenizer_is_refused_and_tokens_are_not():
    model = Model(architectures.build("llama")[0], None)
    with pytest.raises(PromptError, match="no tokenizer: give token ids"):
        model.run("w5 w6")
    unequal = model.run([[5, 6], [7, 8, 9]], logits_at=-1)
    alone = model.run([[5, 6]], logits_at=-1)
    torch.testing.assert_close(unequal.logits[:1], alone.logits, atol=1e-5, rtol=1e-5)


def test_a_tokenizer_without_a_pad_token_is_named():
    hf, tokenizer = architectures.build("llama")
    tokenizer.pad_token = None
    model = Model(hf, tokenizer)
    with pytest.raises(
        PromptError, match=r"prompts of 1 to 2 tokens need padding, but the tokenizer has no pad token: set"
    ):
        model.run(["w5", "w6 w7"])
    assert model.run(["w5 w8", "w6 w7"], logits_at=-1).logits.shape == (2, 96)


def test_right_padded_prompts_cannot_be_generated_from():
    prompts = torch.tensor([[5, 6, 7], [8, 9, 0]])
    with pytest.raises(ValueError, match="pad prompts on the left"):
        model_of("llama").generate(prompts, torch.tensor([[1, 1, 1], [1, 1, 0]]), max_new_tokens=2)


def test_an_unknown_keyword_of_a_site_is_refused():
    for wrong, message in [
        (lambda: Site("zz"), "there is no site kind 'zz'; the kinds are embed, resid_pre"),
        (lambda: Site("resid_pre", layer=0, head=1), "'resid_pre' has no head axis"),
        (lambda: Site("z", layer=0, key=1), "'z' has no key axis"),
        (lambda: Site("z", layer=0, head=-1), "heads count from 0"),
        (lambda: Site("embed", layer=0), "'embed' lies before the layers"),
        (Site, "a site names either a kind or a module"),
        (lambda: Site(module="lm_head", end="middle"), "a module's end is 'input' or 'output'"),
        (lambda: Site.parse("z[layers=3]"), "'layers=3' in 'z.layers=3.' is not an axis"),
        (lambda: Site.parse(3), "a site is a Site or a name, not int"),
    ]:
        with pytest.raises(SiteError, match=message):
            wrong()


def test_a_module_without_positions_has_none_to_read():
    prompts = architectures.prompts()
    router = Site(module="model.layers.1.mlp.gate", position=-1)
    with pytest.raises(InterventionError, match="so it has no position to read"):
        model_of("mixtral").run(prompts.input_ids, capture=[router])
    alone = model_of("mixtral").run(prompts.input_ids[:1], capture=[router.at(position=None)])
    with pytest.raises(CacheError, match=r"the shape \[9, 4\], not \[batch, position, …\]"):
        alone.cache[router]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("position", [None, 0, -1])
@pytest.mark.parametrize("end", ["input", "output"])
def test_behind_the_backbone_only_the_logits_position_is_there(name, position, end):
    """Where one position's logits are computed, the language-model head's column 0 is that position."""
    model, prompts = model_of(name), architectures.prompts()
    head = Site(module="lm_head", end=end, position=position)
    message = rf"{head.module}\.{end}.* lies behind the backbone, where logits_at .*: leave logits_at out"
    for at in ({"capture": [head]}, {"interventions": [ck.zero(head)]}):
        with pytest.raises(InterventionError, match=message):
            model.run(prompts.input_ids, **at, logits_at=-1)
    value = model.run(prompts.input_ids, capture=[head]).cache[head]
    assert value.shape[:-1] == ((3, 9) if position is None else (3,))
    assert not model.run(prompts.input_ids, [ck.zero(Site(module=head.module))]).logits.any()


def test_modules_of_the_backbone_are_read_beside_one_positions_logits():
    model, prompts = model_of("llama"), architectures.prompts()
    for path in ("model.norm", "model.layers.1.mlp.down_proj"):
        site = Site(module=path)
        found, whole = (model.run(prompts.input_ids, capture=[site], logits_at=at).cache[site] for at in (-1, None))
        torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("wrong", [-1, 96, 50256])
def test_a_token_id_outside_the_vocabulary_is_named(wrong):
    message = f"token id {wrong} in row 1 is outside the vocabulary, whose 96 ids are 0 to 95"
    for prompts in ([[5, 6], [7, wrong]], torch.tensor([[5, 6], [wrong, 7]])):
        with pytest.raises(PromptError, match=message):
            model_of("gpt2").run(prompts)
        with pytest.raises(PromptError, match=message):
            model_of("gpt2").generate(prompts, max_new_tokens=1)
    assert model_of("gpt2").run([[0, 95]]).logits.shape == (1, 2, 96)


def test_the_vocabulary_is_the_embeddings_and_may_be_unknown(monkeypatch):
    hf, tokenizer = architectures.build("gpt2")
    hf.resize_token_embeddings(128, mean_resizing=False)
    model = Model(hf, tokenizer)
    assert model.run([[127]], logits_at=-1).logits.shape == (1, 128)
    monkeypatch.setattr(Model, "vocabulary", None)
    with pytest.raises(IndexError):
        model.run([[128]])


def test_a_word_that_the_tokenizer_does_not_know_is_warned_of_once():
    model = model_of("llama")
    with pytest.warns(UserWarning) as told:
        tokens = model.tokens(["w5 w6", "w7 zebra w8 quagga", "okapi"])
    assert [str(each.message) for each in told] == [
        "the tokenizer does not know 'zebra' of prompt 1, so the model reads <unk> there"
    ]
    assert tokens.ids[1].tolist() == [7, architectures.UNKNOWN, 8, architectures.UNKNOWN]
    with pytest.warns(UserWarning, match="does not know 'zebra' of prompt 0"):
        model.tokens("<unk> zebra")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.tokens(["w5 w6", "<unk> w7"])
        model.tokens([[5, architectures.UNKNOWN]])


def test_an_unknown_token_that_is_another_special_token_is_no_unknown_word():
    """As GPT-2's and OPT's, which read any text, and put theirs before every prompt or write it between texts."""
    hf, tokenizer = architectures.build("llama")
    tokenizer.unk_token = "<eos>"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Model(hf, tokenizer).tokens("<eos> w5").ids.tolist() == [[1, 5]]


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        (torch.float32, "look for NaN or infinity among the weights and the interventions' values"),
        (torch.bfloat16, "bfloat16 is coarse, so try float32"),
        (torch.float16, "so try bfloat16 or float32"),
    ],
)
def test_logits_that_are_no_number_are_named_with_what_helps_at_that_precision(dtype, advice):
    hf, tokenizer = architectures.build("llama")
    hf.model.norm.weight.fill_(torch.nan)
    with pytest.raises(InterventionError, match=f"the logits of row 0 hold NaN: .*{advice}"):
        Model(hf.to(dtype), tokenizer).run("w5 w6")
