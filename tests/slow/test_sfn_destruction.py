"""Destruction on every architecture that is spoken for, in every way."""

import pytest

import architectures
from sfn import destroying
from sfn.destroying import WAYS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=architectures.NAMES)
def source(request, tmp_path_factory):
    return architectures.folder(request.param, tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize("how", WAYS)
def test_only_what_was_named_is_another(source, tmp_path, how):
    destroying.check_only_what_was_named_is_another(source, tmp_path, how)


@pytest.mark.parametrize("how", WAYS)
def test_in_memory_is_what_is_written(source, tmp_path, how):
    destroying.check_in_memory_is_what_is_written(source, tmp_path, how)


def test_a_removed_layer_is_not_there(source, tmp_path):
    destroying.check_a_removed_layer_is_not_there(source, tmp_path)


def test_zeros_in_weights_are_zeros_at_sites(source, tmp_path):
    destroying.check_zero_heads_are_heads_whose_activations_are_zero(source, tmp_path / "heads")
    destroying.check_zero_modules_add_nothing(source, tmp_path / "modules")
