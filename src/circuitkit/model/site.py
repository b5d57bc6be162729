"""A site: a named place in a decoder's computation."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any, Literal, Self, get_args

Kind = Literal[
    "embed",
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "q",
    "k",
    "v",
    "z",
    "scores",
    "pattern",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
HEAD_KINDS = frozenset({"q", "k", "v", "z", "scores", "pattern"})
KEY_VALUE_KINDS = frozenset({"k", "v"})
ATTENTION_KINDS = frozenset({"scores", "pattern"})
_AXES = ("layer", "head", "position", "key")

_TRANSFORMER_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_q": "q",
    "attn.hook_k": "k",
    "attn.hook_v": "v",
    "attn.hook_z": "z",
    "attn.hook_attn_scores": "scores",
    "attn.hook_pattern": "pattern",
    # The names of TransformerLens's bridge, where they mean the same tensor on every architecture.
    "hook_in": "resid_pre",
    "hook_out": "resid_post",
    "attn.q.hook_out": "q",
    "attn.k.hook_out": "k",
    "attn.v.hook_out": "v",
    "attn.o.hook_in": "z",
}
_OWN = re.compile(r"(?P<name>[\w.]+?)(?:\.(?P<end>input|output))?\[(?P<axes>[^\]]*)\]")


class SiteError(ValueError):
    """A site that does not exist on this model, or does not name a place at all."""


@dataclass(frozen=True)
class Site:
    """A place in the computation: a kind and a layer, and optionally a head and a position; or any module's end.

    Positions count a row's real tokens, whatever the padding: 0 is the first and -1 the last. A site without
    a layer stands for every layer that has the kind.

    Shapes of the values, a named head or position dropping its axis:
        embed, resid_pre, resid_mid, resid_post, attn_out, mlp_out: `[batch, position, d_model]`
        q, z: `[batch, position, head, d_head]`; k, v: the same with key/value heads
        scores, pattern: `[batch, head, query, key]`; `position` names the query, `key` the key

    Attributes:
        kind: one of `circuitkit.model.KINDS`, or None for a module.
        layer: block index, from 0; negative counts from the last once a model reads it.
        head: query head, or key/value head for `k` and `v`.
        position: a real token's index within its row.
        key: for `scores` and `pattern` alone, the position attended to.
        module: a module's path in the Hugging Face model, instead of a kind.
        end: which end of that module, "input" or "output".

    Raises:
        SiteError: the kind is unknown, an axis is named that the kind does not have, or by what is no integer.

    >>> Site("z", layer=3, head=5, position=-1)
    z[layer=3, head=5, position=-1]
    """

    kind: Kind | None = None
    layer: int | None = None
    head: int | None = None
    position: int | None = None
    key: int | None = None
    module: str | None = None
    end: Literal["input", "output"] = "output"

    def __post_init__(self) -> None:
        if (self.kind is None) == (self.module is None):
            raise SiteError("a site names either a kind or a module, e.g. Site('z', layer=3) or Site(module='lm_head')")
        for axis in _AXES:
            if (number := getattr(self, axis)) is not None:
                object.__setattr__(self, axis, _integer(axis, number))
        if self.module is not None:
            if self.end not in ("input", "output"):
                raise SiteError(f"a module's end is 'input' or 'output', not {self.end!r}")
            if self.layer is not None or self.head is not None or self.key is not None:
                raise SiteError(f"module {self.module!r} has no layer, head or key axis; index its value instead")
            return
        if self.kind not in KINDS:
            raise SiteError(f"there is no site kind {self.kind!r}; the kinds are {', '.join(KINDS)}")
        if self.kind == "embed" and self.layer is not None:
            raise SiteError("'embed' lies before the layers and takes none; use 'resid_pre' for a layer's input")
        if self.head is not None and self.kind not in HEAD_KINDS:
            raise SiteError(f"{self.kind!r} has no head axis; the kinds that have are {', '.join(sorted(HEAD_KINDS))}")
        if self.head is not None and self.head < 0:
            raise SiteError(f"heads count from 0, got head={self.head}")
        if self.key is not None and self.kind not in ATTENTION_KINDS:
            raise SiteError(f"{self.kind!r} has no key axis; only 'scores' and 'pattern' have")

    @classmethod
    def parse(cls, name: str | Site) -> Site:
        """Read a site from its own text, a kind alone, or a TransformerLens hook name.

        Raises:
            SiteError: the text names no site.

        >>> Site.parse("blocks.3.attn.hook_z") == Site("z", layer=3) == Site.parse("z[layer=3]")
        True
        """
        if isinstance(name, Site):
            return name
        if not isinstance(name, str):
            raise SiteError(f"a site is a Site or a name, not {type(name).__name__}: {name!r}")
        if name in KINDS:
            return cls(name)
        if name in ("hook_embed", "embed.hook_out"):
            return cls("embed")
        if (block := re.fullmatch(r"blocks\.(\d+)\.(.+)", name)) and block[2] in _TRANSFORMER_LENS:
            return cls(_TRANSFORMER_LENS[block[2]], layer=int(block[1]))  # type: ignore[arg-type]  # kinds all
        if own := _OWN.fullmatch(name):
            return cls._from_own_text(name, own)
        raise SiteError(
            f"{name!r} names no site: give a kind ({', '.join(KINDS)}), text such as 'z[layer=3, head=5]', a "
            "TransformerLens name such as 'blocks.3.attn.hook_z', or Site(module='path.of.module')"
        )

    @classmethod
    def _from_own_text(cls, text: str, match: re.Match[str]) -> Self:
        axes: dict[str, int] = {}
        for axis in filter(None, (part.strip() for part in match["axes"].split(","))):
            name, _, number = axis.partition("=")
            if name not in _AXES or not re.fullmatch(r"-?\d+", number):
                raise SiteError(f"{axis!r} in {text!r} is not an axis such as layer=3, head=5, position=-1 or key=0")
            axes[name] = int(number)
        if match["end"]:
            return cls(module=match["name"], end=match["end"], **axes)  # type: ignore[arg-type]  # by the pattern
        return cls(match["name"], **axes)  # type: ignore[arg-type]  # an unknown kind is refused above

    @property
    def place(self) -> Site:
        """The whole tensor that this site is a part of: the same kind and layer, no head, position or key."""
        return replace(self, head=None, position=None, key=None)

    def at(self, **axes: Any) -> Site:
        """The same site with some axes named anew."""
        return replace(self, **axes)

    def __repr__(self) -> str:
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name in _AXES}
        axes = ", ".join(f"{name}={value}" for name, value in named.items() if value is not None)
        name = f"{self.module}.{self.end}" if self.module is not None else self.kind
        return f"{name}[{axes}]"

    __str__ = __repr__


def _integer(axis: str, number: object) -> int:
    """An axis's number as Python's own int, which compares and prints as one."""
    if not isinstance(number, bool):
        try:
            return index(number)  # type: ignore[arg-type]  # what has none is refused
        except TypeError:
            pass
    raise SiteError(
        f"{axis}={number!r} is no integer, but {type(number).__name__}: a site names one place, as {axis}=1 does"
    )
