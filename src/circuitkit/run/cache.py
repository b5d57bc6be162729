"""What a run kept: site values, and where their columns stand; saved as safetensors and mapped lazily."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuitkit.model.site import ATTENTION_KINDS, HEAD_KINDS, Site
from circuitkit.model.tokens import absolute, columns_of
from circuitkit.records import whole_file
from circuitkit.run.captures import gather_axis
from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = "circuitkit-cache-1"


class CacheError(ValueError):
    """A cache that does not hold what was asked for, or a file that cannot be read."""


class Cache(Shown, Mapping[Site, Tensor]):
    """Site values by site; a site's head, position or key can be read from its whole value.

    Attributes:
        positions: each column's real position; -1 on padding. Values keep padded columns.
        prompt_lengths: real tokens of each prompt, which negative positions count from.
        metadata: provenance, as text.
        n_layers: the model's layers, which negative layers count from; None where that is not known.

    >>> cache = ck.load("deductor-130k").run("Every wumpus is a dumpus.", capture=["z"]).cache
    >>> cache["z[layer=1, head=2]"].shape == cache["z[layer=1]"][:, :, 2].shape
    True
    """

    def __init__(
        self,
        values: Mapping[Site, Tensor | Callable[[], Tensor]],
        positions: Int[Tensor, "batch column"],
        prompt_lengths: Int[Tensor, " batch"],
        metadata: Mapping[str, str],
        n_layers: int | None = None,
    ) -> None:
        self.n_layers = n_layers
        self._values = {self._counted(site): value for site, value in values.items()}
        self.positions = positions
        self.prompt_lengths = prompt_lengths
        self.metadata = dict(metadata)

    def __getitem__(self, site: Site | str) -> Float[Tensor, "..."]:
        """A site's value.

        Raises:
            CacheError: the site was not captured, nor a whole that it is a part of.
        """
        site = self._counted(Site.parse(site))
        if site in self._values:
            return self._read(site)
        for whole in (site.at(position=None, key=None), site.at(head=None), site.place):
            if whole in self._values:
                return self._part(self._read(whole), whole, site)
        raise CacheError(f"{site} was not captured; this cache holds {', '.join(map(str, self._values)) or 'nothing'}")

    def __contains__(self, site: object) -> bool:
        try:
            self[site]  # type: ignore[index]  # refused below if it is not a site
        except ValueError:
            return False
        return True

    def __iter__(self) -> Iterator[Site]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _counted(self, site: Site) -> Site:
        """The same site with its layer counted from 0."""
        if site.layer is None or site.layer >= 0 or self.n_layers is None:
            return site
        if site.layer < -self.n_layers:
            raise CacheError(f"{site} does not exist: the model has layers 0 to {self.n_layers - 1}")
        return site.at(layer=site.layer + self.n_layers)

    def _read(self, site: Site) -> Tensor:
        value = self._values[site]
        return value if isinstance(value, Tensor) else value()

    def _part(self, value: Tensor, whole: Site, site: Site) -> Tensor:
        attention = site.kind in ATTENTION_KINDS
        # Last axes first, so that those before them keep their places.
        if site.key is not None and whole.key is None:
            value = self._at(value, site.key, axis=value.ndim - 1)
        if site.kind in HEAD_KINDS and site.head is not None and whole.head is None:
            axis = 1 if attention else (2 if whole.position is None else 1)
            if site.head >= value.shape[axis]:
                raise CacheError(f"{site} does not exist: the layer has heads 0 to {value.shape[axis] - 1}")
            value = value.select(axis, site.head)
        if site.position is not None and whole.position is None:
            value = self._at(value, site.position, axis=1 if not attention or site.head is not None else 2)
        return value

    def _at(self, value: Tensor, position: int, axis: int) -> Tensor:
        if (value.shape[0], value.shape[axis]) != tuple(self.positions.shape):
            raise CacheError(f"the value has the shape {list(value.shape)}, not [batch, position, …]: index it by hand")
        columns, found = columns_of(self.positions, absolute(position, self.prompt_lengths))
        if not bool(found.all()):
            row = int((~found).nonzero()[0])
            raise CacheError(f"position {position} does not exist in row {row} of this cache")
        return gather_axis(value, columns, axis)

    def save(self, path: str | Path) -> Path:
        """Write the cache as one safetensors file, whole or not at all; provenance goes into its metadata."""
        path = Path(path)
        tensors = {str(site): self._read(site).detach().cpu().contiguous() for site in self._values}
        tensors |= {"positions": self.positions.cpu(), "prompt_lengths": self.prompt_lengths.cpu()}
        metadata = {**self.metadata, "format": _FORMAT, "sites": json.dumps([str(site) for site in self._values])}
        if self.n_layers is not None:
            metadata["n_layers"] = str(self.n_layers)
        with whole_file(path) as beside:
            save_file(tensors, beside, metadata=metadata)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Cache:
        """Map a saved cache; a value is read from disk when it is asked for.

        Raises:
            CacheError: there is no such file, it is cut short, or it is not a cache.
        """
        path = Path(path)
        try:
            file: Any = safe_open(path, framework="pt")
        except FileNotFoundError as error:
            raise CacheError(f"there is no cache file {path}") from error
        except (SafetensorError, OSError) as error:
            raise CacheError(
                f"{path} is cut short or not a safetensors file ({error}): capture it again, or copy it anew"
            ) from error
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise CacheError(f"{path} is a safetensors file, but not a cache of this version ({_FORMAT})")

        def reader(name: str) -> Callable[[], Tensor]:
            return lambda: file.get_tensor(name)

        sites = {Site.parse(name): reader(name) for name in json.loads(metadata["sites"])}
        n_layers = int(metadata["n_layers"]) if "n_layers" in metadata else None
        return cls(sites, file.get_tensor("positions"), file.get_tensor("prompt_lengths"), metadata, n_layers)

    def to_transformer_lens(self, bridge: Any = None) -> Any:
        """The same values as a TransformerLens `ActivationCache`, under its hook names, padded columns kept.

        Args:
            bridge: the `TransformerBridge` that methods such as `logit_attrs` take weights from, and that modules'
                hook names are known by; without one, the cache holds names and values alone.

        Raises:
            TransformerLensError: the cache holds part of an activation, or a module that the bridge has no hook at; or
                the bridge has processed its weights.

        >>> cache = ck.load("deductor-130k").run("Every wumpus is a dumpus.", capture=["z"]).cache
        >>> cache.to_transformer_lens()["z", 1].shape
        torch.Size([1, 6, 4, 16])
        """
        from circuitkit.interop import transformer_lens

        return transformer_lens.to_activation_cache(self, bridge)

    def _says(self) -> list[str]:
        n, (rows, columns) = len(self), self.positions.shape
        longest = int(self.prompt_lengths.max()) if rows else 0
        return [
            f"What {n} site{'s' * (n != 1)} carried on {rows} prompt{'s' * (rows != 1)} of up to {longest} tokens "
            f"({columns} columns, padding and new tokens included)."
        ]

    def _strongest(self) -> pd.DataFrame:
        import pandas as pd

        # Values that are still on disk are left there.
        held = {site: value for site, value in self._values.items() if isinstance(value, Tensor)}
        rows = [
            {"site": str(site), "shape": " x ".join(map(str, held[site].shape)) if site in held else "on disk"}
            for site in self._values
        ]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Cache({len(self)} sites, {self.positions.shape[0]} rows of {self.positions.shape[1]} columns)"
