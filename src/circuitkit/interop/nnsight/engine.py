"""A model that nnsight runs: here, in a simulation of the way to NDIF, or on NDIF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.interop.nnsight import far_side
from circuitkit.interop.nnsight.generating import Generation
from circuitkit.interop.nnsight.holding import Holding
from circuitkit.interop.nnsight.limits import check_intervention, check_site, refusal
from circuitkit.interop.nnsight.measuring import measure
from circuitkit.interop.nnsight.programs import Program, Programs
from circuitkit.interop.nnsight.recipes import Plain, Recipe, check_fired
from circuitkit.interop.nnsight.softmax import softmax_names
from circuitkit.interop.nnsight.structure import Structure
from circuitkit.metrics import Metric, Targets
from circuitkit.model.model import Actions, Model
from circuitkit.model.points import Point
from circuitkit.model.probe import Layer
from circuitkit.model.site import ATTENTION_KINDS, Kind, Site, SiteError
from circuitkit.model.tokens import Pass, Prompts, Tokens
from circuitkit.pairs import Reading
from circuitkit.run.cache import Cache
from circuitkit.run.edits import Edit
from circuitkit.run.interventions import InterventionError, Interventions
from circuitkit.run.run import Run, nan_row


class NnsightModel(Model):
    """A model whose weights are elsewhere, with the same sites, runs and studies as a `Model`.

    Here is only its skeleton, without weights. Every run is one trace, sent with its interventions as plain data;
    studies are reduced to a number an example where the model is.

    Attributes:
        hf: the skeleton: modules on the meta device, in the shapes of the weights.
        traced: nnsight's own model.
        remote: False, where nnsight runs it here; "local", where it simulates the way to NDIF; True or a host's
            address, where it is run there.
        rows_at_once: most rows, cells times prompts, of one trace of a study.

    Raises:
        EngineError: at first use of a site, where it cannot be told from the config.

    >>> ck.load("deductor-130k", engine="nnsight").n_heads(0)
    4
    """

    def __init__(
        self,
        traced: Any,
        tokenizer: Any = None,
        *,
        remote: bool | str = False,
        name: str | None = None,
        revision: str | None = None,
    ) -> None:
        wrapped = traced._module
        with torch.device("meta"):
            skeleton = type(wrapped)(wrapped.config).to(wrapped.dtype)
        super().__init__(skeleton.eval(), tokenizer, name=name, revision=revision)
        for module in skeleton.modules():
            # A lens or a study that calls the model's own modules is told so, before it meets missing weights.
            module.register_forward_pre_hook(self.forward)
        self.traced, self.remote, self.dtype = traced, remote, wrapped.dtype
        self.rows_at_once = 64

    # What the model is made of

    @cached_property
    def structure(self) -> Structure:
        """Where sites are and in which order they come, by a narrow twin of the model."""
        return Structure.of(self.anatomy)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What each layer has."""
        return self.structure.layers

    @cached_property
    def programs(self) -> Programs:
        """Writes what a trace does."""
        return Programs(self)

    @property
    def device(self) -> torch.device:
        """Where token ids and results are: here."""
        return torch.device("cpu")

    @property
    def eager(self) -> bool:
        """Whether attention forms its scores and pattern, as it does with attn_implementation="eager"."""
        return getattr(self.config, "_attn_implementation", None) == "eager"

    def point(self, site: Site) -> Point:
        """See `Model.point`; attention's sites need a softmax that nnsight finds.

        Raises:
            SiteError: there is no such layer, head or module, or the layer has no such site.
        """
        point = super().point(site)
        if site.kind in ATTENTION_KINDS and softmax_names(point.module) is None:
            raise SiteError(f"{site}: nnsight finds no single softmax in {type(point.module).__name__}")
        return point

    def softmax_of(self, path: str) -> tuple[str, ...]:
        """The names under which nnsight offers an attention module's softmax."""
        return softmax_names(self.hf.get_submodule(path)) or ()

    # Running

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
        """Run prompts once, in one trace; see `Model.run`. What is kept comes here, and nothing else.

        Raises:
            EngineError: the engine cannot do what is asked.
            SiteError, PromptError, InterventionError: as of `Model.run`.

        >>> model = ck.load("deductor-130k", engine="nnsight")
        >>> model.run("Every wumpus is a dumpus.", [ck.zero("mlp_out[layer=1]")], logits_at=-1).logits.shape
        torch.Size([1, 305])
        """
        if gradients:
            raise refusal("gradients", self.name)
        tokens = self.tokens(prompts, attention_mask)
        session = Holding(self, interventions, capture, outer=self.sessions)
        session.check_positions(tokens)
        now = Pass(tokens.mask, tokens.mask.shape[1], tokens.mask)
        recipes = self.recipes([(0, session.edits)])
        captures = [each.site for each in session.captures]
        program = self.programs.of(recipes, captures, tokens, now)
        check_fired(recipes)
        told = self._traced_run(tokens, program, None if logits_at is None else tokens.columns(logits_at)[:, None])
        logits = told["logits"] if logits_at is None else told["logits"][:, 0]
        if (row := nan_row(logits)) is not None:
            raise InterventionError(f"the logits of row {row} hold NaN: look at the interventions' values")
        values = {site: told["kept"][str(site)] for site in captures}
        return Run(logits, Cache(values, now.key_positions, now.prompt_lengths, session.told(), self.n_layers), tokens)

    def recipes(
        self, edits: Sequence[tuple[int, Sequence[Edit]]], *, generating: bool = False
    ) -> list[tuple[int, Recipe]]:
        """Interventions of numbered cells as what can be told the far side.

        Raises:
            EngineError: one of them is not to be had there.
        """
        made = []
        for cell, several in edits:
            for edit in several:
                check_intervention(edit.intervention, edit.site, self.eager, generating, self.name)
                made.append((cell, Recipe(edit.intervention, edit.site)))
        return made

    def inputs(self, tokens: Tokens) -> dict[str, Tensor]:
        """What a forward of a token batch is handed."""
        batch = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
        if self.accepts("position_ids"):
            batch["position_ids"] = tokens.positions.clamp(min=0)
        return batch

    def reads(self, columns: Int[Tensor, "batch reads"] | None) -> tuple[Plain | None, dict[str, Any]]:
        """How the far side reads logits at some columns of each row, and the forward's settings for it."""
        settings: dict[str, Any] = {"use_cache": False} if self.accepts("use_cache") else {}
        if columns is None:
            return None, settings
        read, where = torch.unique(columns, return_inverse=True)
        if self.accepts("logits_to_keep"):
            return {"columns": where, "among": None}, {**settings, "logits_to_keep": read}
        return {"columns": where, "among": read}, settings

    def _traced_run(self, tokens: Tokens, program: Program, columns: Tensor | None) -> dict[str, Any]:
        from nnsight import save

        traced, batch, remote = self.traced, self.inputs(tokens), self.remote
        where, settings = self.reads(columns)
        run = far_side.run
        # What the block names goes along, so it names nothing of this object.
        with torch.no_grad(), traced.trace(batch, remote=remote, **settings):
            told = save(run(traced, program, where))
        result: dict[str, Any] = told
        return result

    def intervene(
        self, interventions: Interventions = (), capture: Iterable[Site | str] = (), *, gradients: bool = False
    ) -> Holding:
        """Hold interventions on every `run` and `generate` until the context ends; see `Model.intervene`.

        Raises:
            EngineError: captures or gradients are asked for.

        >>> model = ck.load("deductor-130k", engine="nnsight")
        >>> with model.intervene([ck.zero("z[layer=2, head=1]")]):
        ...     tokens = model.generate("Every wumpus is a dumpus.", max_new_tokens=2, do_sample=False)
        """
        if gradients:
            raise refusal("gradients", self.name)
        if list(capture):
            raise refusal("capture in a context", self.name)
        return Holding(self, interventions, ())

    def generate(
        self, prompts: Prompts | Tokens, attention_mask: Tensor | None = None, **settings: Any
    ) -> Int[Tensor, "row column"]:
        """Continue prompts, under the interventions that are held; returns prompt and continuation ids.

        Args:
            prompts: text, token ids, or a batch padded on the left.
            attention_mask: goes with a padded tensor.
            settings: of transformers' `generate`; under interventions, `max_new_tokens` is among them.

        Raises:
            EngineError: interventions are held, and cannot follow this way of decoding.
            PromptError: see `circuitkit.model.tokens.as_tokens`.
        """
        tokens = self.tokens(prompts, attention_mask)
        if tokens.padded and not bool(tokens.mask[:, -1].all()):
            raise ValueError("generation continues a row's last column: pad prompts on the left")
        if "pad_token_id" not in settings and getattr(self.tokenizer, "pad_token_id", None) is not None:
            settings["pad_token_id"] = self.tokenizer.pad_token_id
        return Generation(self, tokens, settings).ids()

    # Studies

    def measure(
        self,
        prompts: Tokens,
        targets: Targets,
        metric: Metric,
        cells: Sequence[Interventions],
        *,
        title: str = "",
        progress: bool = True,
        budget: int | None = None,
    ) -> Float[Tensor, "cell example"]:
        """Measure every example under every cell; see `circuitkit.run.executor.measure`.

        Cells are stacked along the batch, a trace for each `rows_at_once` rows, and reduced where the model is.

        Raises:
            EngineError: a cell or the metric cannot be carried out there.
            InterventionError: a cell's intervention reaches nothing.
        """
        if budget is not None:
            raise refusal("budget", self.name)
        if self.sessions:
            raise refusal("study within intervene", self.name)
        return measure(self, prompts, targets, metric, cells, title=title, progress=progress)

    def logits_read(self, prompts: Tokens, targets: Targets, metric: Metric) -> Float[Tensor, "example *reads vocab"]:
        """The logits that a metric reads without interventions; see `circuitkit.run.executor.logits_read`."""
        reading = Reading.of(prompts, targets, metric)
        logits: Tensor = self._traced_run(reading.tokens, [], reading.columns)["logits"]
        return logits[:, 0] if metric.positions == "last" else logits

    # What is not here

    def to_transformer_lens(self) -> NoReturn:
        """Refused: a bridge shares weights with its model.

        Raises:
            EngineError: always.
        """
        raise refusal("TransformerLens", self.name)

    def tapped(self, actions: Actions, this_pass: Any) -> AbstractContextManager[None]:
        """Refused: hooks are held on a model that is here.

        Raises:
            EngineError: always.
        """
        raise refusal("own hooks", self.name)

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: see `run`.

        Raises:
            EngineError: always.
        """
        raise refusal("forward", self.name)

    __call__ = forward

    def layers_with(self, kind: Kind) -> list[int]:
        """The layers that have sites of a kind, and that nnsight reaches."""
        layers = super().layers_with(kind)
        if layers and kind in ATTENTION_KINDS:
            check_site(Site(kind, layer=layers[0]), self.eager, False, self.name)
        return layers

    def __repr__(self) -> str:
        where = {False: "here", "local": "as if remote", True: "on NDIF"}.get(self.remote, f"at {self.remote}")
        return f"NnsightModel({self.name!r}: {type(self.hf).__name__}, {self.n_layers} layers, {where})"
