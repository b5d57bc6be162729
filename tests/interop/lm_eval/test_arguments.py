"""lm-eval's model arguments, from its registry on."""

from typing import Any

import pytest
import torch
from lm_eval.api.registry import get_model

import circuitkit as ck
from circuitkit.interop.lm_eval import HarnessError, HarnessModel
from circuitkit.interop.lm_eval.arguments import interventions_of, loaded


def told(arguments: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [(each.operation, str(each.site), each.value) for each in interventions_of(arguments)]


def test_the_registered_model_is_made_of_lm_evals_arguments():
    made = get_model("circuitkit").create_from_arg_string(
        "pretrained=deductor-5k,ablate=0.1+1.0,scale=blocks.0.hook_mlp_out:0.5",
        {"batch_size": "3", "max_batch_size": None, "device": "cpu"},
    )
    assert isinstance(made, HarnessModel)
    assert [str(each.site) for each in made.interventions] == [
        "z[layer=0, head=1]",
        "z[layer=1, head=0]",
        "mlp_out[layer=0]",
    ]
    assert (made.batch_size, made.max_length, made.circuit_model.name) == (3, 2048, "deductor-5k")


def test_a_gpu_that_lm_evals_command_asks_for_by_itself_is_no_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    made = HarnessModel.create_from_arg_obj({"pretrained": "deductor-5k"}, {"device": "cuda:0"})
    assert made.device.type == "cpu"


def test_sites_are_heads_and_transformer_lens_names():
    assert told({"ablate": "1.10+L2H3+blocks.2.hook_mlp_out"}) == [
        ("replace", "z[layer=1, head=10]", 0.0),
        ("replace", "z[layer=2, head=3]", 0.0),
        ("replace", "mlp_out[layer=2]", 0.0),
    ]
    assert told({"scale": "1.2:0.5+1.3:-1"}) == [
        ("scale", "z[layer=1, head=2]", 0.5),
        ("scale", "z[layer=1, head=3]", -1),
    ]
    (hidden,) = interventions_of({"knockout": "1.2:-1"})
    assert (hidden.operation, str(hidden.site), hidden.keys) == ("knockout", "scores[layer=1, head=2]", (-1,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ablate": 1.1}, "ablate=1.1 as a number, by which 1.1 and 1.10 are one: write a single head as ablate=L1H10"),
        ({"ablate": "1.2+"}, "names nothing at one place"),
        ({"ablate": "1.2+nowhere"}, "'nowhere' is neither a head, such as 1.2, nor a site"),
        ({"scale": "1.2"}, "something behind a colon, as in scale=1.2:0.5"),
        ({"scale": "1.2:half"}, "'half' is none"),
        ({"knockout": "blocks.1.hook_mlp_out:0"}, "hides keys from a head"),
        ({"knockout": "1.2:first"}, "'first' is none"),
    ],
)
def test_what_is_written_otherwise_is_named(arguments: dict[str, Any], message: str):
    with pytest.raises(HarnessError) as raised:
        interventions_of(arguments)
    assert message in str(raised.value)


def test_a_model_and_known_arguments_are_asked_for():
    with pytest.raises(HarnessError, match="give pretrained=NAME"):
        loaded({"ablate": "1.2"})
    with pytest.raises(HarnessError, match="has no argument 'parallelize'"):
        loaded({"pretrained": "deductor-5k", "parallelize": True})
    with pytest.raises(OSError, match="no embedded model is called"):
        loaded({"pretrained": "deductor-6k"})


def test_nothing_of_lm_eval_is_imported_before_it_is_used():
    import subprocess
    import sys

    code = (
        "import sys, circuitkit.interop.lm_eval as h; h.TASKS; print('lm_eval' in sys.modules, 'torch' in sys.modules)"
    )
    told_by = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told_by.stdout.split()[0] == "False"
    assert ck.interop.lm_eval.HarnessModel is HarnessModel
