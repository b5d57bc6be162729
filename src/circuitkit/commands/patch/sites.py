"""Sites and sets of sites as words of a command line: z.2.1, mlp_out.0@-1, z.0.1+z.0.2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from circuitkit.model.site import Site

_SHORT = re.compile(
    r"(?P<kind>[a-z_]+)(?:\.(?P<layer>-?\d+)(?:\.(?P<head>\d+))?)?(?:@(?P<position>-?\d+)(?:,(?P<key>-?\d+))?)?"
)
_FAMILIAR = {"head": "z", "mlp": "mlp_out", "attn": "attn_out"}


def site_of(text: str) -> Site:
    """A site as it is written on a command line: KIND, KIND.LAYER, KIND.LAYER.HEAD, any of them with @POSITION.

    An edge of attention is pattern.LAYER.HEAD@QUERY,KEY. head, attn and mlp stand for z, attn_out and mlp_out, and
    logits for the last stream; whatever `Site.parse` reads will do too.

    Raises:
        SiteError: it names no site.

    >>> site_of("z.2.1"), site_of("mlp.0@-1"), site_of("blocks.3.attn.hook_q")
    (z[layer=2, head=1], mlp_out[layer=0, position=-1], q[layer=3])
    """
    from circuitkit.model.site import KINDS, Site, SiteError

    text = text.strip()
    if text == "logits":
        return Site("resid_post", layer=-1)
    short = _SHORT.fullmatch(text)
    kind = short and _FAMILIAR.get(short["kind"], short["kind"])
    if short is None or kind not in KINDS:
        try:
            return Site.parse(text)
        except SiteError as error:
            raise SiteError(
                f"{text!r} names no site: write KIND.LAYER.HEAD@POSITION, all but the kind as you need them, such as "
                f"z.2.1, mlp_out.0 or resid_pre.1@-1; the kinds are {', '.join(KINDS)}"
            ) from error
    named = {axis: int(short[axis]) for axis in ("layer", "head", "position", "key") if short[axis] is not None}
    return Site(kind, **named)  # type: ignore[arg-type]  # it is one of KINDS


def written(name: str, n_layers: int) -> str:
    """Sites as a result names them, as they are written on a command line.

    >>> written("z[layer=0, head=1] + mlp_out[layer=0, position=-1]", 3), written("resid_post[layer=2]", 3)
    ('z.0.1+mlp_out.0@-1', 'logits')
    """
    from circuitkit.model.site import Site

    texts = []
    for part in name.split(" + "):
        site = Site.parse(part)
        where = "".join(f".{number}" for number in (site.layer, site.head) if number is not None)
        at = "" if site.position is None else f"@{site.position}"
        last = site.kind == "resid_post" and site.layer == n_layers - 1
        texts.append(f"{'logits' if last else f'{site.kind}{where}'}{at}")
    return "+".join(texts)


def together(text: str) -> tuple[Site, ...]:
    """Sites that act together, joined by +.

    >>> together("z.0.1+z.0.2")
    (z[layer=0, head=1], z[layer=0, head=2])
    """
    return tuple(site_of(part) for part in text.split("+"))


def ends_of(words: Sequence[str]) -> list[Site | tuple[Site, ...]]:
    """Senders or receivers: each word a site, or several joined by + that act together.

    >>> ends_of(["embed", "z.0.1+z.0.2"])
    [embed[], (z[layer=0, head=1], z[layer=0, head=2])]
    """
    sets = [together(word) for word in words]
    return [sites[0] if len(sites) == 1 else sites for sites in sets]


def sets_of(words: Sequence[str]) -> dict[str, tuple[Site, ...]]:
    """Named sets of sites, each written NAME=SITE+SITE; a set without a name is called by its sites.

    Raises:
        SiteError: a part names no site, or a name is given twice.

    >>> sets_of(["early=z.0.1+z.0.2"])
    {'early': (z[layer=0, head=1], z[layer=0, head=2])}
    """
    from circuitkit.model.site import SiteError

    sets: dict[str, tuple[Site, ...]] = {}
    for word in words:
        named = re.fullmatch(r"([^=\[\]+]+)=(.+)", word)
        name, sites = (named[1].strip(), named[2]) if named else (word, word)
        if name in sets:
            raise SiteError(f"two sets are called {name!r}: give each its own name")
        sets[name] = together(sites)
    return sets


def heads_of(words: Sequence[str]) -> list[tuple[int, int]]:
    """Heads, each written LAYER.HEAD.

    Raises:
        SiteError: a word is not so written.

    >>> heads_of(["2.1"])
    [(2, 1)]
    """
    from circuitkit.model.site import SiteError

    found = []
    for word in words:
        if not (written := re.fullmatch(r"(-?\d+)\.(\d+)", word)):
            raise SiteError(f"a head is written layer.head, such as 2.1, not {word!r}")
        found.append((int(written[1]), int(written[2])))
    return found
