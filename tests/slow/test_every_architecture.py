"""Every architecture passes the doctor in half precision."""

import pytest
import torch

import architectures
import circuitkit as ck
from circuitkit.doctor import examine

pytestmark = pytest.mark.slow


# Rounding flips which experts a mixture chooses, so its two ways through attention part by more than rounding itself.
@pytest.mark.parametrize("name", [name for name in architectures.NAMES if name != "olmoe"])
def test_the_doctor_passes_in_half_precision(name):
    hf, tokenizer = architectures.build(name)
    examination = examine(ck.Model(hf.to(torch.bfloat16), tokenizer, name=name))
    assert examination.ok, examination.table()
    assert examination.dtype == "bfloat16"
