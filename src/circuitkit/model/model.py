"""A Hugging Face decoder and the map of its sites."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from circuitkit.model import taps
from circuitkit.model.anatomy import Names, dissect
from circuitkit.model.devices import execution_device
from circuitkit.model.points import Point
from circuitkit.model.probe import Layer, probe
from circuitkit.model.sharding import check_same_draws, group_of
from circuitkit.model.short_run import module_point
from circuitkit.model.site import ATTENTION_KINDS, KEY_VALUE_KINDS, Kind, Site, SiteError
from circuitkit.model.tokens import Pass, Prompts, Tokens, as_tokens
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from circuitkit.run import Interventions, Run, Session
    from circuitkit.run.clean_runs import CleanRuns

Actions = Mapping[Site, Sequence[taps.Action]]


class Model(Shown):
    """An ordinary Hugging Face causal LM, with a map of its sites.

    Weights, numerics, `forward` and `generate` stay the model's own: nothing is converted or refolded, so PEFT,
    Trainer, device maps, quantisation and KV caches keep working.

    Attributes:
        hf: the Hugging Face model.
        tokenizer: its tokenizer, or None where prompts are always token ids.
        name: what results call the model.
        sessions: the contexts that hold interventions or captures on it now.
        revision: the revision it was loaded at, if any.
        clean_runs: where runs without interventions are kept and read again, if anywhere; a folder may be given.

    Raises:
        AnatomyError: the architecture is not known, and `names` does not describe it.
        TransformerLensError: a `TransformerBridge` was given, whose model and tokenizer are taken out of it over the
            same weights, but it has processed them or holds no Hugging Face model.

    >>> model = Model(ck.load("deductor-130k").hf)
    >>> model.n_layers, model.n_heads(0)
    (3, 4)
    """

    def __init__(
        self,
        hf: Any,
        tokenizer: Any = None,
        *,
        names: Names | None = None,
        name: str | None = None,
        revision: str | None = None,
        clean_runs: CleanRuns | str | Path | None = None,
    ) -> None:
        # What is made of a model comes behind it, and is imported when it is asked for.
        from circuitkit.interop import transformer_lens

        if transformer_lens.is_bridge(hf):
            tokenizer = tokenizer or getattr(hf, "tokenizer", None)
            name = name or getattr(getattr(hf, "cfg", None), "model_name", None)
            hf = transformer_lens.hf_model_of(hf)
        self.hf = hf
        self.tokenizer = tokenizer
        self.anatomy = dissect(hf, names)
        root: Any = self.anatomy.root
        self.config: Any = root.config.get_text_config() if hasattr(root.config, "get_text_config") else root.config
        self.name: str = name or getattr(root.config, "_name_or_path", "") or type(root).__name__
        self.revision = revision
        self.sessions: list[Session] = []
        self.clean_runs: CleanRuns | None = None
        if clean_runs is not None:
            from circuitkit.run.clean_runs import CleanRuns

            self.clean_runs = CleanRuns.at(clean_runs)
        self._module_points: dict[tuple[nn.Module, str], Point] = {}
        self._forward_parameters = _parameters(root, self.anatomy.backbones[0])

    # What the model is made of

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What each layer has, found out in one short run at first use."""
        return probe(self.anatomy, self.group)

    @cached_property
    def group(self) -> Any:
        """The processes that the model's tensors are divided among; None where it is whole in each."""
        return group_of(self.anatomy.root)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.anatomy.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        embedding: Any = self.anatomy.embed
        return int(getattr(self.config, "hidden_size", None) or embedding.weight.shape[-1])

    def n_heads(self, layer: int) -> int:
        """Query heads of a layer."""
        return self._heads(layer, "z", self.layers[self._layer(layer)].n_heads)

    def n_kv_heads(self, layer: int) -> int:
        """Key/value heads of a layer."""
        return self._heads(layer, "k", self.layers[self._layer(layer)].n_kv_heads)

    def _heads(self, layer: int, kind: Kind, count: int | None) -> int:
        if count is None:
            raise SiteError(f"layer {layer} of {self.name} has no {kind}: {self.layers[layer].refusals.get(kind)}")
        return count

    def _layer(self, layer: int) -> int:
        if not -self.n_layers <= layer < self.n_layers:
            raise SiteError(f"layer {layer} does not exist: {self.name} has layers 0 to {self.n_layers - 1}")
        return layer % self.n_layers

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        return execution_device(self.anatomy.embed)

    @property
    def context(self) -> int | None:
        """Most tokens a prompt may have, where the model says so."""
        limits = (getattr(self.config, name, None) for name in ("max_position_embeddings", "n_positions"))
        return next((int(limit) for limit in limits if isinstance(limit, int)), None)

    @property
    def vocabulary(self) -> int | None:
        """Rows of the token embedding, which token ids lie below, where the model says so."""
        sizes = (getattr(self.anatomy.embed, "num_embeddings", None), getattr(self.config, "vocab_size", None))
        return next((int(size) for size in sizes if isinstance(size, int)), None)

    def accepts(self, parameter: str) -> bool:
        """Whether the model's forward takes a parameter of that name."""
        return parameter in self._forward_parameters

    # Sites

    def layers_with(self, kind: Kind) -> list[int]:
        """The layers that have sites of a kind."""
        if kind == "embed":
            return []
        return [index for index, layer in enumerate(self.layers) if kind in layer.points]

    def sites(self, site: Site | str) -> list[Site]:
        """The sites that a name stands for, one a layer where it names none, checked to exist.

        Raises:
            SiteError: there is no such layer, head or module, or the layer has no such site.
        """
        site = Site.parse(site)
        if site.module is not None or site.kind == "embed":
            self.point(site)
            return [site]
        assert site.kind is not None
        if site.layer is None:
            layers = self.layers_with(site.kind)
            if not layers:
                raise SiteError(f"no layer of {self.name} has {site.kind}: {self.layers[0].refusals[site.kind]}")
        else:
            layers = [self._layer(site.layer)]
        sites = [site.at(layer=layer) for layer in layers]
        for each in sites:
            self.point(each)
        return sites

    def point(self, site: Site) -> Point:
        """Where a site's tensor is.

        Raises:
            SiteError: there is no such layer, head or module, or the layer has no such site.
        """
        if site.module is not None:
            return self._module_point(site)
        if site.kind == "embed":
            return Point(self.anatomy.embed, "output")
        assert site.kind is not None
        if site.layer is None:
            raise SiteError(f"{site} names no layer")
        layer = self.layers[self._layer(site.layer)]
        if site.kind not in layer.points:
            raise SiteError(f"layer {site.layer} of {self.name} has no {site.kind}: {layer.refusals[site.kind]}")
        count = layer.n_kv_heads if site.kind in KEY_VALUE_KINDS else layer.n_heads
        if site.head is not None and count is not None and site.head >= count:
            heads = "key/value heads" if site.kind in KEY_VALUE_KINDS else "heads"
            raise SiteError(f"head {site.head} does not exist: layer {site.layer} has {heads} 0 to {count - 1}")
        return layer.points[site.kind]

    def _module_point(self, site: Site) -> Point:
        assert site.module is not None
        module = self._module(site.module)
        if self.group is None:
            return Point(module, site.end)
        if (module, site.end) not in self._module_points:
            self._module_points[module, site.end] = module_point(self.anatomy, site, module, self.group)
        return self._module_points[module, site.end]

    def _module(self, path: str) -> nn.Module:
        for root in (self.anatomy.root, self.hf):
            try:
                return root.get_submodule(path)
            except AttributeError:
                continue
        raise SiteError(f"{type(self.hf).__name__} has no module {path!r}; print(model.hf) shows what it has")

    def tapped(self, actions: Actions, this_pass: Callable[[], Pass | None]) -> AbstractContextManager[None]:
        """Hold actions at whole sites (no head, position or key named) while the context lasts."""
        ends: dict[Point, list[taps.Action]] = {}
        attention: dict[Point, tuple[list[taps.Action], list[taps.Action]]] = {}
        middles: dict[nn.Module, tuple[Point, Sequence[taps.Action]]] = {}
        for site, acts in actions.items():
            point = self.point(site)
            if site.kind in ATTENTION_KINDS:
                of_module = attention.setdefault(point, ([], []))
                of_module[site.kind == "pattern"].extend(acts)
            elif site.kind == "resid_mid":
                assert site.layer is not None
                middles[self.anatomy.blocks[site.layer].block] = (point, acts)
            else:
                ends.setdefault(point, []).extend(acts)
        return taps.holding(ends, attention, middles, this_pass)

    # Running

    def tokens(self, prompts: Prompts | Tokens, attention_mask: Tensor | None = None) -> Tokens:
        """Prompts as a left-padded token batch on the model's device.

        Raises:
            PromptError: see `circuitkit.model.tokens.as_tokens`.
        """
        return as_tokens(prompts, self.tokenizer, attention_mask, self.context, self.vocabulary).to(self.device)

    def run(
        self,
        prompts: Prompts | Tokens,
        interventions: Interventions = (),
        capture: Iterable[Site | str] = (),
        *,
        logits_at: int | None = None,
        attention_mask: Int[Tensor, "batch column"] | None = None,
        gradients: bool = False,
    ) -> Run:
        """Run prompts through the model once, under interventions, keeping what is asked for.

        Args:
            prompts: text, lists of token ids, or a token tensor (with `attention_mask` where it is padded).
            interventions: what to change, in this order where several touch one site.
            capture: sites to keep, as they are after the interventions.
            logits_at: only this position's logits, `[batch, vocab]`; all of them, `[batch, column, vocab]`, if None.
            attention_mask: 1 on real tokens, for a padded token tensor.
            gradients: keep the graph, so that `Run.gradients` can differentiate at captured sites.

        Raises:
            SiteError, PromptError: what is named does not exist.
            InterventionError: an intervention or capture never took place, or its value does not fit.

        >>> run = ck.load("deductor-130k").run("Every wumpus is a dumpus.", capture=["z"], logits_at=-1)
        >>> run.cache["z[layer=1, head=2, position=-1]"].shape
        torch.Size([1, 16])
        """
        # Interventions know sites and models know interventions; the import of the one by the other waits for use.
        from circuitkit.run import run

        return run(self, prompts, interventions, capture, logits_at, attention_mask, gradients)

    def intervene(
        self, interventions: Interventions = (), capture: Iterable[Site | str] = (), *, gradients: bool = False
    ) -> Session:
        """Hold interventions on every forward and `generate` of the model, until the context ends.

        Contexts nest, an outer one's interventions coming first. The session's `.cache` has what was captured.

        Raises:
            SiteError: what is named does not exist.
            InterventionError: at the end of the context, something never took place.

        >>> model = ck.load("deductor-130k")
        >>> with model.intervene([ck.zero(Site("z", layer=2, head=1))]):
        ...     tokens = model.generate("Every wumpus is a dumpus.", max_new_tokens=2, do_sample=False)
        """
        from circuitkit.run import Session

        return Session(self, interventions, capture, gradients=gradients)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The Hugging Face model's own forward."""
        return self.hf(*args, **kwargs)

    __call__ = forward

    def generate(
        self, prompts: Prompts | Tokens, attention_mask: Tensor | None = None, **settings: Any
    ) -> Int[Tensor, "row column"]:
        """The Hugging Face model's own `generate`, from text or tokens; returns prompt and continuation ids.

        Raises:
            PromptError: see `circuitkit.model.tokens.as_tokens`.
        """
        tokens = self.tokens(prompts, attention_mask)
        if tokens.padded and not bool(tokens.mask[:, -1].all()):
            raise ValueError("generation continues a row's last column: pad prompts on the left")
        if "pad_token_id" not in settings and getattr(self.tokenizer, "pad_token_id", None) is not None:
            settings["pad_token_id"] = self.tokenizer.pad_token_id
        config = settings.get("generation_config") or self.hf.generation_config
        if settings.get("do_sample", config.do_sample):
            check_same_draws(self.group, tokens.ids.device)
        ids: Tensor = self.hf.generate(input_ids=tokens.ids, attention_mask=tokens.mask.long(), **settings)
        return ids

    def to_transformer_lens(self) -> Any:
        """A TransformerLens `TransformerBridge` over the same weights, with eager attention, reading text as this does.

        The bridge has modules of its own, so that nothing is changed in this model. What is written into a weight in
        place changes both; moving either to another device parts them.

        Raises:
            TransformerLensError: TransformerLens has no adapter for the architecture, its bridge gives other logits,
                or the model has an adapter or an open context.

        >>> bridge = ck.load("deductor-130k").to_transformer_lens()
        >>> logits, cache = bridge.run_with_cache("Every wumpus is a dumpus.")
        """
        from circuitkit.interop import transformer_lens

        return transformer_lens.to_bridge(self)

    def _title(self) -> str:
        return f"Model: {self.name}"

    def _says(self) -> list[str]:
        root = self.anatomy.root
        numbers = sum(parameter.numel() for parameter in root.parameters())
        dtypes = ", ".join(sorted({str(each.dtype).removeprefix("torch.") for each in root.parameters()}))
        heads = sorted({self.n_heads(layer) for layer in self.layers_with("z")})
        of_heads = f" of {' to '.join(map(str, heads[:: len(heads) - 1 or 1]))} heads" if heads else ""
        return [
            f"{type(root).__name__}: {self.n_layers} layers{of_heads}, {self.d_model} wide, {numbers:,} parameters "
            f"({dtypes})."
        ]

    def __repr__(self) -> str:
        return f"Model({self.name!r}: {type(self.anatomy.root).__name__}, {self.n_layers} layers, {self.d_model} wide)"


def _parameters(root: nn.Module, backbone: nn.Module) -> frozenset[str]:
    """What a causal LM's forward takes."""
    taken, behind = (inspect.signature(each.forward).parameters for each in (root, backbone))
    # GraniteMoE's does not name use_cache, but hands it on.
    hands_on = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values())
    return frozenset(taken) | ({"use_cache"} & behind.keys() if hands_on else frozenset())
