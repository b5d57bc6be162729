"""Results in one file: what comes back, and what is refused."""

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from circuitkit import saving
from circuitkit.json_files import JsonFile
from circuitkit.saving import InOneFile


@dataclass(frozen=True, eq=False)
class Kept(InOneFile):
    _kind = "kept"

    values: Tensor
    sets: tuple[tuple[str, ...], ...]
    share: float = 0.5
    groups: Tensor | None = None
    settings: dict[str, list[int]] | None = None


def test_tensors_tuples_and_settings_come_back_as_they_were(tmp_path):
    kept = Kept(torch.eye(2), ((), ("a", "b")), settings={"sizes": [1, 2]})
    assert kept.save(tmp_path) == tmp_path / "kept.safetensors"
    again = Kept.load(tmp_path)
    assert torch.equal(again.values, kept.values)
    assert (again.sets, again.share, again.groups, again.settings) == (((), ("a", "b")), 0.5, None, {"sizes": [1, 2]})
    assert torch.equal(Kept.load(Kept(torch.eye(2), (), groups=torch.tensor([1])).save(tmp_path)).groups, torch.ones(1))


def test_files_of_another_format_or_without_a_field_are_refused(tmp_path):
    told = {"sets": [["a"]], "format": 1}
    path = saving.save(tmp_path / "kept.safetensors", "kept", {"values": torch.eye(2)}, told)
    assert Kept.load(path).sets == (("a",),)
    saving.save(path, "kept", {"values": torch.eye(2)}, told | {"format": 2})
    with pytest.raises(ValueError, match="later circuitkit"):
        Kept.load(path)
    saving.save(path, "kept", {}, told)
    with pytest.raises(ValueError, match=r"holds no kept as it should be.*'values'"):
        Kept.load(path)
    saving.save(path, "kept", {"values": torch.eye(2)}, told | {"more": 1})
    with pytest.raises(ValueError, match=r"holds no kept as it should be.*'more'"):
        Kept.load(path)


def test_json_of_another_format_or_kind_is_refused_by_its_own_error(tmp_path):
    class KeptError(ValueError):
        pass

    file = JsonFile("kept.json", "values", KeptError)
    path = file.write(tmp_path, {"values": [1]})
    assert path == tmp_path / "kept.json"
    assert file.read(tmp_path, lambda told: told["values"]) == [1]
    for text, said in (
        (json.dumps({"format": 2, "values": [1]}), "does not know"),
        (json.dumps({"format": 1}), "holds no values"),
        (json.dumps([1]), "holds no values"),
        ("{", "cut short or altered"),
    ):
        path.write_text(text)
        with pytest.raises(KeptError, match=said):
            file.read(path, lambda told: told["values"])
    with pytest.raises(KeptError, match="save values there first"):
        file.read(tmp_path / "none.json", dict)
    with pytest.raises(KeptError, match=r"values are saved as \.json"):
        file.write(tmp_path / "kept.csv", {})
