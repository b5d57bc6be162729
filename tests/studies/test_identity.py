"""What makes a cell another cell: its code, its parameters, its model, its data; and nothing else."""

import enum
import functools
import importlib.util
import itertools
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import architectures
import circuitkit as ck
from circuitkit.studies import Pretrained, SweepError
from circuitkit.studies.cells import name_cells
from circuitkit.studies.identity import Identity
from studies.functions import square

COUNT = itertools.count()


def key(function: Any, **parameters: Any) -> str:
    return name_cells([(function, parameters)])[0].key


def function_in(folder: Path, source: str, name: str = "f", module: str = "") -> Any:
    """A function of a module with that source."""
    path = folder / f"module_{next(COUNT)}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(module or "module", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return getattr(made, name)


CODE = '''
K = 2
def g(x):
    return x + K
def f(x):
    """Told."""
    # why
    return g(x)
def h(x):
    return x
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("# why", "# because", True),
        ('"""Told."""', '"""Told otherwise."""', True),
        ("g(x)", "g( x )", True),
        ("def h(x):\n    return x", "def h(x):\n    return 2", True),
        ("import os\nK = 2", "import os\nK = 2", True),
        ("return g(x)", "return g(x) + 1", False),
        ("return x + K", "return x - K", False),
        ("K = 2", "K = 3", False),
        ("def f(x)", "def f(x, y=0)", False),
    ],
)
def test_code_counts_by_what_it_does(tmp_path: Path, before: str, after: str, same: bool) -> None:
    old, new = (function_in(tmp_path, code) for code in (CODE, CODE.replace(before, after)))
    assert (key(old, x=1) == key(new, x=1)) is same


def test_a_lambda_counts_by_its_own_code_and_closure() -> None:
    one, other, third = [(lambda x: x + 1), (lambda x: x + 2), (lambda y: y + 1)][:3]
    assert len({key(one, x=1), key(other, x=1), key(third, y=1)}) == 3

    def adding(n: int) -> Any:
        return lambda x: x + n

    assert key(adding(1), x=1) == key(adding(1), x=1) != key(adding(2), x=1)
    with pytest.raises(SweepError, match=r"reads .*n', which is or holds a object, which cannot be hashed: pass it as"):
        key(adding(object()), x=1)  # type: ignore[arg-type]


def test_functions_that_call_each_other_and_share_a_name(tmp_path: Path) -> None:
    code = "a = lambda x: x + 1\nb = lambda x: x + 2\ndef f(x):\n    return a(x) + b(x)\n"
    old, new = (function_in(tmp_path, each) for each in (code, code.replace("x + 2", "x + 3")))
    assert key(old, x=1) != key(new, x=1)

    def even(x: int) -> bool:
        return not x or odd(x - 1)

    def odd(x: int) -> bool:
        return bool(x) and even(x - 1)

    assert key(even, x=1) == key(even, x=1) != key(odd, x=1)


def test_a_method_of_a_class_of_the_module_counts(tmp_path: Path) -> None:
    code = "class A:\n    def m(self):\n        return 1\ndef f(x):\n    return A().m()\n"
    old, new = (function_in(tmp_path, each) for each in (code, code.replace("return 1", "return 2")))
    assert key(old, x=1) != key(new, x=1)


def test_a_partial_is_a_function_and_its_arguments() -> None:
    assert key(functools.partial(pow, 2), exp=3) == key(functools.partial(pow, 2), exp=3)
    assert key(functools.partial(pow, 2), exp=3) != key(functools.partial(pow, 3), exp=3)


def test_every_function_counts_by_our_version(monkeypatch: pytest.MonkeyPatch) -> None:
    first = key(square, x=1)
    assert key(square, x=1) == first
    monkeypatch.setattr(ck, "__version__", "99")
    assert key(square, x=1) != first


def wrapped(k: int) -> Any:
    def decorated(f: Any) -> Any:
        @functools.wraps(f)
        def g(x: int) -> int:
            return k * int(f(x))

        return g

    return decorated(square)


def with_default(k: int) -> Any:
    def f(x: int, k: int = k) -> int:
        return x * k

    return f


def with_named_default(k: int) -> Any:
    def f(x: int, *, k: int = k) -> int:
        return x * k

    return f


@pytest.mark.parametrize(
    "make",
    [wrapped, with_default, with_named_default, lambda k: lambda x, k=k: x * k, lambda k: functools.partial(pow, k)],
)
def test_functions_that_differ_in_what_they_carry_are_other_cells(make: Any) -> None:
    parameters = {"exp": 1} if isinstance(make(1), functools.partial) else {"x": 1}
    assert key(make(1), **parameters) == key(make(1), **parameters) != key(make(2), **parameters)


READS = {
    "a dict": "CONFIG = {'k': 1}\ndef f(x): return CONFIG['k'] * x",
    "a list": "LIST = [1]\ndef f(x): return LIST[0] * x",
    "a constant as default": "K = 1\ndef f(x, k=K): return x * k",
    "a constant in a class": "K = 1\nclass C:\n    k = K\ndef f(x): return C.k * x",
    "a decorator": """import functools
def deco(f):
    @functools.wraps(f)
    def g(x): return f(x) * 1
    return g
@deco
def f(x): return x""",
    "a base class": """class A:
    def m(self, x): return x * 1
class B(A): pass
def f(x): return B().m(x)""",
    "a property": """class A:
    @property
    def m(self): return 1
def f(x): return A().m * x""",
    "a callable dataclass": """from dataclasses import dataclass
@dataclass(frozen=True)
class Study:
    a: int = 3
    def __call__(self, x): return x * 1
f = Study()""",
    "a dataclass's default": """from dataclasses import dataclass, field
K = 1
@dataclass
class Study:
    a: int = K
    b: list = field(default_factory=list)
def f(x): return Study().a * x""",
    "an instance": "class A:\n    def m(self, x): return x * 1\na = A()\ndef f(x): return a.m(x)",
    "an instance's attribute": "class A:\n    pass\na = A()\na.k = 1\ndef f(x): return a.k * x",
    "a partial": "import functools\npart = functools.partial(lambda a, x: a * x, 1)\ndef f(x): return part(x)",
    "functions in a dict": "TABLE = {'f': (lambda x: x * 1)}\ndef f(x): return TABLE['f'](x)",
    "a cached function": "import functools\n@functools.cache\ndef g(x): return x * 1\ndef f(x): return g(x)",
    "an enumeration": "import enum\nclass E(enum.Enum):\n    A = 1\ndef f(x): return E.A.value * x",
    "an alias": "g = lambda x: x\nh = lambda x: x + 1\na, b, c = g, h, g  # 1\ndef f(x): return a(b(c(x)))",
}


@pytest.mark.parametrize("what", READS)
def test_what_a_function_reads_counts(tmp_path: Path, what: str) -> None:
    changed = READS[what].replace("1", "2") if what != "an alias" else READS[what].replace("g, h, g", "g, h, h")
    one, same, other = (key(function_in(tmp_path, each), x=1) for each in (READS[what], READS[what], changed))
    assert one == same != other


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import threading\nlock = threading.Lock()\ndef f(x):\n    with lock: return x", "'lock', .* a lock"),
        ("import torch\nlayer = torch.nn.Linear(1, 1)\ndef f(x): return layer", "'layer', .* a Linear"),
        ("TABLE = {}\ndef f(x): return TABLE\nTABLE['f'] = f", "'TABLE', .* a function that holds or reads itself"),
    ],
)
def test_what_a_function_reads_and_has_no_form_is_refused(tmp_path: Path, code: str, told: str) -> None:
    with pytest.raises(SweepError, match=f"{told}.*, which cannot be hashed: pass it as a parameter"):
        key(function_in(tmp_path, code), x=1)


def test_what_libraries_define_does_not_hinder(tmp_path: Path) -> None:
    code = """import logging, re, torch, typing
import numpy as np
from numpy import exp, mean
from dataclasses import dataclass
log = logging.getLogger("a")
WORD = re.compile("a+")
T = typing.TypeVar("T")
Numbers = list[int] | None
lock = open
@torch.no_grad()
def f(x):
    log.info(typing.cast(Numbers, exp(mean([x])))), T
    return x.lock if WORD.match("a") else np.exp(x)"""
    assert key(function_in(tmp_path, code), x=1) == key(function_in(tmp_path, code), x=1)
    assert key(function_in(tmp_path, code), x=1) != key(function_in(tmp_path, code.replace("a+", "b+")), x=1)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(string.printable)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


def kinds(value: Any) -> Any:
    """A value with the types of its parts, which tell True from 1 and 1 from 1.0."""
    if isinstance(value, list):
        return [kinds(each) for each in value]
    if isinstance(value, dict):
        return {name: kinds(each) for name, each in value.items()}
    return type(value), str(value)


@settings(max_examples=200, deadline=None)
@given(values, values)
def test_values_have_one_hash_when_they_are_equal(a: Any, b: Any) -> None:
    assert (Identity().digest(a) == Identity().digest(b)) == (kinds(a) == kinds(b))


@settings(max_examples=50, deadline=None)
@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_names_is_nothing(order: list[str]) -> None:
    assert Identity().digest({name: name for name in order}) == Identity().digest({name: name for name in "abc"})


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def test_what_can_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    pairs = [ck.Pairs(["a b"], ["a c"], [" d"], [answer]) for answer in (" e", " f")]
    different: list[Any] = [
        *(None, True, 1, 1.0, "1", [1], {"1": 1}, {1: 1}, {1}, b"1", 1j, range(1), range(2), slice(1)),
        *(torch.tensor([1]), torch.tensor([1.0]), torch.tensor([[1]]), torch.tensor([1], dtype=torch.int32)),
        *(np.array([1]), np.array([1.0]), np.array([[1]]), torch.empty(0), torch.tensor([1.0], dtype=torch.bfloat16)),
        *(tmp_path / "a", tmp_path / "b", tmp_path / "none", tmp_path, str(tmp_path)),
        *(ck.Site("z", layer=0), ck.Site("z", layer=1), *pairs, Colour.RED, Colour.BLUE),
        *(torch.float32, torch.float16, torch.device("cpu"), int, float, pow, square, ck.metrics.logit_difference),
        *(Pretrained("a"), Pretrained("a", revision="b"), ck.load("deductor-5k"), ck.load("deductor-130k")),
    ]
    assert len({Identity().digest(each) for each in different}) == len(different)
    assert Identity().digest((1, 2)) == Identity().digest([1, 2])
    assert Identity().digest(np.float32(1)) == Identity().digest(1.0)
    assert Identity().digest(ck.load("deductor-5k")) == Identity().digest(ck.load("deductor-5k"))


def test_a_file_counts_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    assert key(square, x=tmp_path / "a") == key(square, x=tmp_path / "b")


def test_changed_weights_are_another_model(tmp_path: Path) -> None:
    model = ck.load("deductor-5k")
    before = Identity().digest(model)
    with torch.no_grad():
        next(model.hf.parameters()).view(-1)[0] += 1
    assert Identity().digest(model) != before


def test_a_folder_is_pinned_by_its_files(tmp_path: Path) -> None:
    folder = architectures.folder("llama", tmp_path)
    first = Pretrained(str(folder)).pinned()
    assert Pretrained(str(folder)).pinned() == first != Pretrained(str(folder))
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert Pretrained(str(folder)).pinned() != first


def test_a_hub_id_is_pinned_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SweepError, match="the commit of 'no-such/model' could not be asked"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        Pretrained("no-such/model").pinned()
    commit = tmp_path / "models--no-such--model" / "snapshots" / "c0ffee" / "config.json"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names, **revision: str(commit))
    assert Pretrained("no-such/model").pinned().revision == "c0ffee"
    assert str(Pretrained("no-such/model").pinned()) == "no-such/model@c0ffee"
    commits = {None: "c0ffee", "main": "1" * 40}
    whole = Pretrained("no-such/model", revision="2" * 40)
    assert whole.pinned() == whole

    def cached(name: str, file: str, revision: str | None) -> str | None:
        return str(commit.parent.parent / commits[revision] / file) if revision in commits else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    assert Pretrained("no-such/model").pinned().revision == "c0ffee"
    assert Pretrained("no-such/model", revision="main").pinned().revision == "1" * 40
    with pytest.raises(SweepError, match="the commit of 'no-such/model@mine' could not be asked"):
        Pretrained("no-such/model", revision="mine").pinned()


@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt", "modeling.py", "chat.jinja", "model.pt", "sub/weights"])
def test_every_file_of_a_folder_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "config.json").write_text("{}")
    without = Pretrained(str(tmp_path)).pinned()
    (tmp_path / name).write_text("one")
    first = Pretrained(str(tmp_path), revision="any").pinned()
    (tmp_path / name).write_text("two")
    second = Pretrained(str(tmp_path), revision="any").pinned()
    assert len({without.content, first.content, second.content}) == 3
