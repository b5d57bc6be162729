"""One model in two threads: each thread's interventions hold in its own forwards alone."""

from threading import Barrier, Thread

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit import Model
from circuitkit.model.hooks import before_forward
from circuitkit.run import InterventionError
from circuitkit.run import session as session_module


def in_a_thread(work):
    found = []
    thread = Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("kind", ["resid_mid", "z", "pattern"])
def test_another_threads_forward_is_left_alone(kind, monkeypatch):
    model, prompts = Model(*architectures.build("llama")), architectures.prompts()
    settings = {"attention_mask": prompts.attention_mask}

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.hf(prompts.input_ids, **settings).logits

    plain = forward()
    with model.intervene([ck.scale(f"{kind}[layer=1]", 3.0)], capture=["z[layer=2]"]) as session:
        intervened = forward()
        kept = session.cache["z[layer=2]"].clone()
        assert torch.equal(in_a_thread(forward), plain)
        assert torch.equal(session.cache["z[layer=2]"], kept)
        # Without a thread of its own, the session would take the other's forward for one of its passes.
        monkeypatch.setattr(session_module, "get_ident", lambda: session._thread)
        assert torch.equal(in_a_thread(forward), intervened)


@pytest.mark.parametrize("name", ["llama", "bloom", "openelm_style"])
def test_two_threads_intervene_on_one_model_at_once(name):
    model, prompts = Model(*architectures.build(name)), architectures.prompts("left_padded")
    model.n_heads(0)
    settings = {"capture": ["pattern", "resid_mid"], "attention_mask": prompts.attention_mask}
    edits = [
        [ck.scale("pattern", 0.5), ck.scale("resid_mid[layer=1]", 2.0)],
        [ck.zero("z[layer=0]"), ck.scale("resid_mid[layer=1]", -1.0)],
    ]
    expected = [model.run(prompts.input_ids, each, **settings) for each in edits]
    together, wrong = Barrier(2), []

    def work(index: int) -> None:
        together.wait()
        for _ in range(6):
            run = model.run(prompts.input_ids, edits[index], **settings)
            same = all(torch.equal(run.cache[site], expected[index].cache[site]) for site in run.cache)
            if not same or not torch.equal(run.logits[prompts.real], expected[index].logits[prompts.real]):
                wrong.append(index)

    threads = [Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_context_used_from_another_thread_alone_says_that_nothing_took_place():
    model, prompts = Model(*architectures.build("llama")), architectures.prompts()
    with (
        pytest.raises(InterventionError, match="never took place: the model did not run in this context"),
        model.intervene([ck.zero("z[layer=1]")]),
    ):
        in_a_thread(lambda: model.hf(prompts.input_ids))


def test_a_forward_that_meets_a_hook_which_is_coming_or_going_goes_on_untouched():
    """torch notes that a hook takes keyword arguments after putting it in place: another thread may be between."""
    layer, seen = torch.nn.Linear(2, 2), []
    handle = before_forward(layer, lambda module, args, kwargs: seen.append(sorted(kwargs)))
    layer._forward_pre_hooks_with_kwargs.clear()
    assert torch.equal(layer(torch.ones(1, 2)), torch.nn.functional.linear(torch.ones(1, 2), layer.weight, layer.bias))
    assert not seen
    layer._forward_pre_hooks_with_kwargs[handle.id] = True
    layer(input=torch.ones(1, 2))
    assert seen == [["input"]]
