"""Attention patching against plain hooks, and against circuits whose edges are known."""

import re
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

import architectures
import circuitkit as ck
from circuitkit import Span
from circuitkit.model import SiteError, planted
from circuitkit.pairs import PairError
from circuitkit.results import Result
from circuitkit.spans import SpanError
from run import by_hand

NAMES = ("gpt2", "llama", "gpt_oss")
LOWEST = torch.finfo(torch.float32).min


@cache
def model_of(name: str) -> ck.Model:
    return ck.Model(*architectures.build(name))


def drawn_pairs(kind: str = "equal") -> tuple[ck.Pairs, Tensor, Tensor, Tensor]:
    """Pairs as text, and their clean and corrupt columns and mask; of several lengths if left-padded."""
    clean = architectures.prompts(kind, length=7 if kind == "equal" else 9)
    corrupt = architectures.Prompts(clean.input_ids.clone(), clean.attention_mask)
    corrupt.input_ids[:, -3] = (corrupt.input_ids[:, -3] + 7) % 60 + 5
    ids = torch.randint(5, architectures.VOCABULARY, (3, 2), generator=torch.Generator().manual_seed(4))
    pairs = ck.Pairs(clean.texts, corrupt.texts, [[int(i)] for i in ids[:, 0]], [[int(i)] for i in ids[:, 1]])
    return pairs, clean.input_ids, corrupt.input_ids, clean.attention_mask


def difference(logits: Tensor, pairs: ck.Pairs) -> Tensor:
    answer, distractor = (torch.tensor(ids).flatten() for ids in (pairs.answer, pairs.distractor))
    rows = torch.arange(len(logits))
    return logits[rows, -1, answer] - logits[rows, -1, distractor]


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("name", NAMES)
def test_an_edge_map_equals_a_loop_of_plain_hooks(name, direction):
    model, (pairs, clean, corrupt, mask) = model_of(name), drawn_pairs()
    result = ck.attention.transplant(model, pairs, direction=direction, layers=1, heads=2, progress=False)
    assert result.axes == ("query", "key") and len(result.labels["key"]) == 7
    base, source = (corrupt, clean) if direction == "denoise" else (clean, corrupt)
    kept = model.run(source, capture=["pattern[layer=1]"]).cache["pattern[layer=1]"]
    for query, key in product(range(7), range(7)):
        if key > query:
            assert result.per_example[query, key].isnan().all()
            continue

        def patch(pattern, query=query, key=key):
            pattern[:, 2, query, key] = kept[:, 2, query, key]
            return pattern

        expected = difference(by_hand.logits(model.hf, base, mask, {("pattern", 1): patch}), pairs)
        torch.testing.assert_close(result.per_example[query, key], expected, atol=2e-5, rtol=1e-4)
    for end, tokens in (("clean", clean), ("corrupt", corrupt)):
        whole = difference(by_hand.logits(model.hf, tokens, mask, {}), pairs)
        torch.testing.assert_close(getattr(result.baseline, end), whole, atol=2e-5, rtol=1e-4)


def test_all_edges_of_all_heads_are_the_maps_of_each_and_all_at_once_is_the_sweep_of_patterns():
    model, (pairs, *_) = model_of("llama"), drawn_pairs()
    whole = ck.attention.transplant(model, pairs, queries=[-1, 5], keys=[4], progress=False)
    assert whole.axes == ("layer", "head", "query", "key") and whole.values.shape == (3, 4, 2, 1)
    one = ck.attention.transplant(model, pairs, layers=2, heads=1, progress=False)
    torch.testing.assert_close(whole.per_example[2, 1, :, 0], one.per_example[[6, 5], 4], atol=1e-5, rtol=1e-5)
    together = ck.attention.transplant(model, pairs, queries="all", keys="all", progress=False)
    sweep = ck.patching.sweep(model, pairs, over="pattern", progress=False)
    assert together.axes == ("layer", "head")
    torch.testing.assert_close(together.per_example, sweep.per_example, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_spans_of_unequal_rows_are_moved_where_each_row_has_them(name):
    model, (pairs, clean, corrupt, mask) = model_of(name), drawn_pairs("left_padded")
    spans = {"changed": Span.at(-3), "end": Span.at(-2, -1)}
    result = ck.attention.transplant(model, pairs, layers=[0, 1], heads=[3], queries=spans, keys=spans, progress=False)
    columns = {"changed": [-3], "end": [-2, -1]}
    assert result.coordinates["query"] == ("changed", "end") and result.axes == ("layer", "head", "query", "key")
    for at, (query, key) in product((0, 1), product(columns, columns)):
        where = (at, 0, list(columns).index(query), list(columns).index(key))
        if (query, key) == ("changed", "end"):
            assert result.per_example[where].isnan().all()
            continue
        kept = model.run(clean, capture=["pattern"], attention_mask=mask).cache[f"pattern[layer={at}]"]

        def patch(pattern, query=query, key=key, kept=kept):
            for q, k in product(columns[query], columns[key]):
                pattern[:, 3, q, k] = kept[:, 3, q, k]
            return pattern

        expected = difference(by_hand.logits(model.hf, corrupt, mask, {("pattern", at): patch}), pairs)
        torch.testing.assert_close(result.per_example[where], expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("metric", ["logit_difference", "log_probability"])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("name", NAMES)
def test_spans_are_moved_between_prompts_of_different_lengths(name, direction, metric):
    model = model_of(name)
    rows = {
        "clean": [[20, 21, 22, 40, 41, 23, 24], [40, 41, 30, 31]],
        "corrupt": [[25, 40, 41, 26, 27], [32, 33, 34, 40, 41, 35]],
    }
    # Each row's columns of "w40 w41" and of its last two tokens.
    pair = {"clean": [(3, 4), (0, 1)], "corrupt": [(1, 2), (3, 4)]}
    end = {side: [(len(row) - 2, len(row) - 1) for row in rows[side]] for side in rows}
    answers, distractors = [[50], [51]], [[52], [53]]
    pairs = ck.Pairs(rows["clean"], rows["corrupt"], answers, distractors)
    spans = {"end": Span.at(-2, -1)}, {"pair": Span.of_text("w40 w41")}
    result = ck.attention.transplant(
        model, pairs, metric, direction, layers=1, heads=[3], queries=spans[0], keys=spans[1], progress=False
    )
    base, source = ("corrupt", "clean") if direction == "denoise" else ("clean", "corrupt")
    for row in range(2):
        kept = model.run([rows[source][row]], capture=["pattern"]).cache["pattern[layer=1]"]

        def patch(pattern, row=row, kept=kept):
            for q, p in product(range(2), range(2)):
                edge = end[base][row][q], pair[base][row][p]
                if edge[1] <= edge[0]:
                    pattern[:, 3, *edge] = kept[:, 3, end[source][row][q], pair[source][row][p]]
            return pattern

        tokens = torch.tensor([rows[base][row]])
        logits = by_hand.logits(model.hf, tokens, torch.ones_like(tokens), {("pattern", 1): patch})[0, -1]
        expected = logits[answers[row]] - logits[distractors[row]]
        if metric == "log_probability":
            expected = logits.log_softmax(-1)[answers[row]]
        torch.testing.assert_close(result.per_example[0, 0, 0, row], expected[0], atol=2e-5, rtol=1e-4)


def test_answers_of_several_tokens_stand_behind_prompts_of_different_lengths():
    model, spans = model_of("llama"), {"pair": Span.of_text("w40 w41")}
    short, long = [40, 41, 30, 31], [32, 33, 34, 40, 41, 35]
    arguments = {"metric": "log_probability", "queries": spans, "keys": spans, "layers": [0], "progress": False}
    result = ck.attention.transplant(model, ck.Pairs([long], [short], [[50, 51, 52]]), **arguments)
    # Beside another pair, its columns are others.
    both = ck.attention.transplant(model, ck.Pairs([long, short], [short, long], [[50, 51, 52], [53]]), **arguments)
    torch.testing.assert_close(both.per_example[..., :1], result.per_example, atol=1e-5, rtol=1e-5)
    assert (result.per_example - result.baseline.corrupt).abs().max() > 1e-4


def test_what_a_pair_gives_is_no_matter_of_the_pairs_beside_it():
    """The names change places, so that a name's attention is elsewhere in the other prompt of as many tokens."""
    model = ck.load("deductor-130k")
    clean = ["Alex is a wumpus. Fae is a lempus. Alex is a"] * 2
    corrupt = ["Fae is a wumpus. Alex is a lempus. Alex is a"]
    corrupt += ["Every tumpus is a brimpus. Fae is a wumpus. Alex is a lempus. Alex is a"]
    sides = {"queries": {"last": Span.at(-1)}, "keys": {"Alex": Span.of_text("Alex")}, "progress": False}

    def moved(n: int) -> Result:
        pairs = ck.Pairs(clean[:n], corrupt[:n], [" wumpus"] * n, [" lempus"] * n)
        return ck.attention.transplant(model, pairs, **sides)

    alone, beside = moved(1), moved(2)
    torch.testing.assert_close(alone.per_example[..., 0], beside.per_example[..., 0], atol=1e-4, rtol=1e-4)
    kept = model.run(clean[0], capture=["pattern"]).cache
    ids = [model.tokenizer.encode(word)[0] for word in (" wumpus", " lempus")]
    for layer, head in product(range(model.n_layers), range(4)):
        value = kept[ck.Site("pattern", layer=layer, head=head)][0, -1, 0]
        edge = ck.Site("pattern", layer=layer, head=head, position=-1, key=5)
        logits = model.run(corrupt[0], [ck.replace(edge, value)], logits_at=-1).logits[0]
        expected = (logits[ids[0]] - logits[ids[1]])[None]
        torch.testing.assert_close(alone.per_example[layer, head, 0, 0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"layers": [1, 1]}, "layer 1 is named twice"),
        ({"layers": [2, -1]}, "layer 2 is named twice"),
        ({"layers": [1], "heads": [3, 0, 3]}, "head 3 is named twice"),
    ],
)
def test_a_layer_or_head_that_is_named_twice_is_refused(named, message):
    with pytest.raises(SiteError, match=message):
        ck.attention.transplant(model_of("llama"), drawn_pairs()[0], progress=False, **named)


def test_spans_that_do_not_correspond_are_named():
    model = model_of("llama")
    pairs = ck.Pairs([[40, 41, 5, 6]], [[7, 40, 41, 40, 41]], [[50]], [[51]])
    every, last = {"pair": Span.of_text("w40 w41", None)}, {"last": Span.at(-1)}
    with pytest.raises(SpanError, match="span 'pair' has 4 tokens in one prompt of pair 0 and 2 in the other"):
        ck.attention.transplant(model, pairs, queries=last, keys=every, progress=False)
    with pytest.raises(SpanError, match="row 0 has no 'w5'"):
        ck.attention.transplant(model, pairs, queries=last, keys={"gone": Span.of_text("w5")}, progress=False)
    # Of the clean prompt, the fourth token is the last, and of the corrupt one the last but one.
    crossing = {"some": Span.at(0, 3), **last}
    with pytest.raises(SpanError, match="span 'last' overlaps with others of pair 0"):
        ck.attention.transplant(model, pairs, direction="noise", queries=last, keys=crossing, progress=False)
    with pytest.raises(PairError, match="clean prompt of 4 tokens and a corrupt one of 5"):
        ck.attention.transplant(model, pairs, queries=last, progress=False)


@pytest.mark.parametrize("per", ["model", "layer", "head"])
@pytest.mark.parametrize("name", NAMES)
def test_cut_edges_equal_masks_by_hand(name, per):
    model, (pairs, clean, _, mask) = model_of(name), drawn_pairs("left_padded")
    spans = {"first": Span.at(0), "middle": Span.at(1), "end": Span.at(-2, -1)}
    assert (mask.sum(-1) > 3).all(), "the spans are apart, so that no query loses its own key"
    result = ck.attention.edges(model, pairs, spans, per=per, progress=False)
    assert result.axes == {"model": (), "layer": ("layer",), "head": ("layer", "head")}[per] + ("query", "key")
    places = list(product(range(3 if per != "model" else 1), range(4 if per == "head" else 1)))
    assert result.values.shape[:-2].numel() == len(places)
    flat = result.per_example.view(-1, 3, 3, 3)
    for number, (layer, head) in enumerate(places):
        for key in (0, 1):

            def cut(scores, head=head, key=key):
                for row, real in enumerate(mask.bool()):
                    columns = real.nonzero().flatten()
                    for query in (-2, -1):
                        if columns[key] < columns[query]:
                            heads = slice(None) if per != "head" else head
                            scores[row, heads, columns[query], columns[key]] = LOWEST
                return scores

            layers = range(3) if per == "model" else [layer]
            expected = difference(by_hand.logits(model.hf, clean, mask, {("scores", at): cut for at in layers}), pairs)
            torch.testing.assert_close(flat[number, 2, key], expected, atol=2e-5, rtol=1e-4)
    assert result.values[..., 0, 2].isnan().all() and not result.values[..., 1, 0].isnan().any()


def test_prompts_alone_are_held_against_their_own_clean_run():
    model, prompts = model_of("llama"), architectures.prompts("left_padded")
    spans = {"start": Span.at(0), "end": Span.at(-1)}
    result = ck.attention.edges(model, prompts.texts, spans, progress=False)
    assert result.metric == "kl" and result.direction == "ablate"
    torch.testing.assert_close(result.baseline.clean, torch.zeros(3), atol=1e-6, rtol=0)
    assert result.values[1, 0] > 1e-3


def test_some_heads_alone_are_cut_and_forced():
    model, (pairs, clean, *_) = model_of("llama"), drawn_pairs()
    spans = {"start": Span.at(0), "end": Span.at(-1)}
    cut = ck.attention.edges(model, pairs, spans, heads=[(0, 1), (2, 3)], progress=False)
    both = [ck.knockout(0, 1, -1, 0), ck.knockout(2, 3, -1, 0)]
    expected = difference(model.run(clean, both).logits, pairs)
    torch.testing.assert_close(cut.per_example[1, 0], expected, atol=1e-5, rtol=1e-5)
    apart = ck.attention.edges(
        model, pairs, spans, heads=[(0, 1), (2, 3)], per="head", how="force", weight=0.5, progress=False
    )
    assert apart.coordinates["layer"] == (0, 2) and apart.coordinates["head"] == (1, 3)
    expected = difference(model.run(clean, [ck.attention.force(2, 3, -1, 0, 0.5)]).logits, pairs)
    torch.testing.assert_close(apart.per_example[1, 1, 1, 0], expected, atol=1e-5, rtol=1e-5)
    assert apart.per_example[0, 1].isnan().all() and len(apart.frame) == 2 * 3


def test_answers_of_several_tokens_are_read_behind_the_prompt():
    model, (_, clean, corrupt, _) = model_of("llama"), drawn_pairs()
    answer = torch.tensor([[11, 12], [13, 14], [15, 16]])
    long = ck.Pairs(clean, corrupt, answer)
    result = ck.attention.transplant(
        model, long, "log_probability", layers=1, heads=0, queries=[-1], keys=[-3], progress=False
    )
    whole = [torch.cat([end, answer[:, :1]], 1) for end in (clean, corrupt)]
    kept = model.run(whole[0], capture=["pattern"]).cache["pattern[layer=1]"]
    # Negative positions count from the prompt's end, not the answer's.
    cell = ck.replace("pattern[layer=1, head=0, position=6, key=4]", kept[:, 0, 6, 4])
    logits = model.run(whole[1], [cell]).logits[:, -2:].log_softmax(-1)
    torch.testing.assert_close(result.per_example[0, 0], logits.gather(-1, answer[..., None]).sum((1, 2)))


@cache
def induction(name: str):
    plant, model = planted.build(name), ck.load(name)
    drawn = plant.pairs(8, seed=1)
    pairs = ck.Pairs(drawn.clean, drawn.corrupt, drawn.answer, drawn.distractor)
    answer, distractor = (
        [(int((row == token).nonzero()[0]),) for row, token in zip(drawn.clean, tokens, strict=True)]
        for tokens in (drawn.answer, drawn.distractor)
    )
    return plant, model, pairs, answer, distractor


def difference_under(model: ck.Model, prompts: Tensor, pairs: ck.Pairs, held) -> float:
    logits = model.run(prompts, held, logits_at=-1).logits
    rows = torch.arange(len(prompts))
    return float((logits[rows, pairs.answer] - logits[rows, pairs.distractor]).mean())


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-induction-llama"])
def test_the_induction_edge_is_what_the_answer_hangs_on_and_the_decoys_is_not(name):
    plant, model, pairs, answer, distractor = induction(name)
    clean = difference_under(model, pairs.clean, pairs, [])
    carriers = [plant.circuit[role] for role in ("induction", "saturated")]
    cut = [ck.knockout(*head, -1, answer) for head in carriers]
    for one in cut:
        assert difference_under(model, pairs.clean, pairs, [one]) < 0.7 * clean
    assert abs(difference_under(model, pairs.clean, pairs, cut)) < 0.2 * clean
    turned = [ck.attention.force(*head, -1, distractor) for head in carriers]
    assert difference_under(model, pairs.clean, pairs, turned) < -0.8 * clean
    for held in (ck.knockout(*plant.decoy, -1, answer), ck.attention.force(*plant.decoy, -1, distractor)):
        assert abs(difference_under(model, pairs.clean, pairs, [held]) - clean) < 0.01 * clean


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-induction-llama"])
def test_the_edge_study_finds_the_planted_edges_alone(name):
    plant, model, pairs, answer, _ = induction(name)

    def behind_the_last_word_before(text: str) -> list[tuple[int, int]]:
        return [re.search(r" (\S+) (\S+)(?= (?:.* )?\1$)", text).span(2)]

    spans = {"answer": Span("answer", behind_the_last_word_before), "end": Span.at(-1)}
    assert spans["answer"].positions(model, pairs.clean) == answer and len(set(answer)) > 1
    result = ck.attention.edges(model, pairs, spans, per="head", progress=False)
    frame = result.frame[(result.frame["query"] == "end") & (result.frame["key"] == "answer")]
    strong = frame[frame["significant"] & (frame["normalised"] > 0.1)]
    carriers = {plant.circuit[role] for role in ("induction", "saturated")}
    assert set(zip(strong["layer"], strong["head"], strict=True)) == carriers
    rest = frame[[at not in carriers for at in zip(frame["layer"], frame["head"], strict=True)]]
    assert rest["normalised"].abs().max() < 0.02


@pytest.mark.parametrize("name", ["planted-induction-gpt2", "planted-induction-llama"])
def test_the_transplanted_edges_that_matter_end_at_the_answer(name):
    plant, model, pairs, answer, distractor = induction(name)
    one = ck.Pairs(*(part[:1] for part in (pairs.clean, pairs.corrupt, pairs.answer, pairs.distractor)))
    layer, head = plant.circuit["saturated"]
    result = ck.attention.transplant(model, one, layers=layer, heads=head, queries=[-1], progress=False)
    moved = result.normalised[0].nan_to_num().abs()
    assert set(moved.topk(2).indices.tolist()) == {answer[0][0], distractor[0][0]}
    assert moved.topk(3).values[2] < 0.02
    layer, head = plant.decoy
    decoy = ck.attention.transplant(model, one, layers=layer, heads=head, queries=[-1], progress=False)
    assert decoy.normalised.nan_to_num().abs().max() < 0.01


def test_values_alone_carry_little_where_the_circuit_moves_attention():
    """With the clean patterns frozen, the corrupt prompt's values still answer as the clean one's would."""
    _, model, pairs, *_ = induction("planted-induction-gpt2")
    frozen = ck.attention.freeze(model, pairs.clean)
    clean, corrupt = (difference_under(model, end, pairs, []) for end in (pairs.clean, pairs.corrupt))
    held = difference_under(model, pairs.corrupt, pairs, frozen)
    assert corrupt < -0.8 * clean and held > 0.8 * clean


def test_a_result_shows_and_loads_again(tmp_path):
    model, (pairs, *_) = model_of("gpt2"), drawn_pairs()
    result = ck.attention.transplant(model, pairs, layers=1, heads=2, queries=[-1, -2], keys=[3, 4], progress=False)
    assert Result.load(result.save(tmp_path / "edges.safetensors")) == result
    assert result.plot().get_xlabel()
    assert result.provenance["study"] == "attention.transplant"


def test_bad_input_is_named():
    model, (pairs, *_) = model_of("llama"), drawn_pairs()
    unequal, *_ = drawn_pairs("left_padded")
    with pytest.raises(PairError, match="no common positions"):
        ck.attention.transplant(model, unequal, layers=0, heads=0, progress=False)
    with pytest.raises(SiteError, match=r"head 9 does not exist: layers .* have heads 0 to 3"):
        ck.attention.transplant(model, pairs, heads=9, progress=False)
    with pytest.raises(SiteError, match="layer 7 does not exist"):
        ck.attention.transplant(model, pairs, layers=7, progress=False)
    with pytest.raises(ValueError, match="'each', 'all', positions, or spans"):
        ck.attention.transplant(model, pairs, queries="some", progress=False)
    with pytest.raises(ValueError, match="'denoise' or 'noise'"):
        ck.attention.transplant(model, pairs, direction="both", progress=False)
    spans = {"start": Span.at(0)}
    for wrong, why in (
        ({"per": "row"}, "per is"),
        ({"how": "cut"}, "how is"),
        ({"layers": [0], "heads": [(0, 0)]}, "not both"),
    ):
        with pytest.raises(ValueError, match=why):
            ck.attention.edges(model, pairs, spans, **wrong, progress=False)
    with pytest.raises(ValueError, match="there are no spans"):
        ck.attention.edges(model, pairs, {}, progress=False)
    with pytest.raises(SpanError, match="row 0 has no 'wumpus'"):
        ck.attention.edges(model, pairs, {"wumpus": Span.of_text("wumpus")}, progress=False)
