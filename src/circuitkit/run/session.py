"""A session: interventions and captures held on a model's forward and generate, and checked to have taken place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from circuitkit.model.hooks import before_forward
from circuitkit.model.site import ATTENTION_KINDS, Site
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.run.cache import Cache
from circuitkit.run.captures import Capture
from circuitkit.run.edits import Edit
from circuitkit.run.interventions import Intervention, InterventionError

if TYPE_CHECKING:
    from circuitkit.model.model import Model
    from circuitkit.model.taps import Action


class Session:
    """Interventions and captures in force on a model; a context manager, made by `Model.intervene`.

    Raises:
        SiteError: on making it, a named layer, head or module does not exist.
        InterventionError: at the end of the context, something never took place.
    """

    def __init__(
        self,
        model: Model,
        interventions: Sequence[Intervention],
        capture: Iterable[Site | str],
        *,
        gradients: bool = False,
    ) -> None:
        if isinstance(interventions, Intervention):
            interventions = [interventions]
        if isinstance(capture, Site | str):
            capture = [capture]
        self.model = model
        self.interventions = list(interventions)
        self.edits = [Edit(each, site) for each in self.interventions for site in model.sites(each.site)]
        sites = list(dict.fromkeys(site for name in capture for site in model.sites(name)))
        places = list(dict.fromkeys(site.place for site in sites)) if gradients else sites
        self.captures = [Capture(site, gradients) for site in places]
        self.gradients = gradients
        self._pass: Pass | None = None
        self._generation: Pass | None = None
        self._prompts: Tensor | None = None
        self._stack = ExitStack()
        # Another thread's forwards of the same model are its own business.
        self._thread = get_ident()

    def __enter__(self) -> Session:
        check_dropout(self.model)
        if self.gradients:
            _check_checkpointing(self.model.anatomy.root)
        actions: dict[Site, list[Action]] = {}
        for edit in self.edits:
            actions.setdefault(edit.site.place, []).append(edit)
            if edit.intervention.operation == "knockout":
                actions.setdefault(edit.site.place.at(kind="pattern"), []).append(edit.after_softmax)
        for capture in self.captures:
            actions.setdefault(capture.site.place, []).append(capture)
        with ExitStack() as stack:
            stack.enter_context(self.model.tapped(actions, self._this_pass))
            self._follow_passes(stack)
            self._follow_generation(stack)
            self.model.sessions.append(self)
            stack.callback(self.model.sessions.remove, self)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None:
            self._check_fired()

    @property
    def cache(self) -> Cache:
        """What was captured, over the prompt and all tokens generated since.

        Raises:
            InterventionError: no forward has run yet, or a row never came to a captured position.
        """
        if self._pass is None:
            raise InterventionError("nothing has been captured: the model has not run in this context")
        now, values = self._pass, dict[Site, Tensor]()
        for capture in self.captures:
            value = capture.whole if self.gradients else capture.value(now.key_positions, now.prompt_lengths)
            assert value is not None
            values[capture.site] = value
        return Cache(values, now.key_positions, now.prompt_lengths, self._provenance(), self.model.n_layers)

    def follow(self, prompts: Bool[Tensor, "batch column"] | None) -> None:
        """Say which columns of the coming forwards are their rows' prompts, where a decoder's rows come and go.

        Another thread than the context's says nothing by it.

        Args:
            prompts: True on the real tokens of each row's prompt, over all columns so far; None where rows stay.

        Raises:
            InterventionError: something is captured, or an intervention names rows, which are not the same any more.
        """
        if get_ident() != self._thread:
            return
        if prompts is not None and (by_row := self._by_row()):
            raise InterventionError(f"rows come and go here, so {by_row[0]}, which names rows, cannot hold")
        self._prompts = prompts

    def check_positions(self, tokens: Tokens) -> None:
        """Check before a run on these tokens that every named position is there.

        Raises:
            PromptError: a row has no such position.
        """
        for edit in self.edits:
            named = [
                edit.site.position,
                edit.site.key,
                *(edit.intervention.queries or ()),
                *(edit.intervention.keys or ()),
            ]
            for position in {position for position in named if position is not None}:
                tokens.columns(position)
        for capture in self.captures:
            for named_position in (capture.site.position, capture.site.key):
                if named_position is not None:
                    tokens.columns(named_position)

    def _this_pass(self) -> Pass | None:
        if get_ident() != self._thread:
            return None
        if self._pass is None:
            raise InterventionError(
                "a tapped module ran outside the model's forward, so its tokens are not known: call the model itself"
            )
        return self._pass

    def _check_fired(self) -> None:
        for edit in self.edits:
            if not edit.fired:
                raise InterventionError(self._unfired("intervention", edit.site, edit.intervention))
        for capture in self.captures:
            if not capture.fired:
                raise InterventionError(self._unfired("capture", capture.site, None))

    def _unfired(self, what: str, site: Site, intervention: Intervention | None) -> str:
        if self._pass is None:
            why = "the model did not run in this context"
        elif intervention is not None and intervention.during == "generated":
            why = "no token was generated that it names (the last one generated is never read)"
        elif site.position is not None:
            why = f"no row came to position {site.position}"
        else:
            why = "its module was never called on a token that it names"
        return f"the {what} at {site} never took place: {why}"

    # Following the model's passes

    def _follow_passes(self, stack: ExitStack) -> None:
        # PEFT and others call the causal LM's forward without its hooks, but every one calls a backbone as a module.
        # Of backbones within each other, the outermost that is called has the caller's own mask.
        within: list[nn.Module] = []

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if get_ident() == self._thread:
                if not within:
                    self._pass = self._pass_of(args, kwargs)
                within.append(module)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            if get_ident() == self._thread and within and within[-1] is module:
                within.pop()

        for backbone in self.model.anatomy.backbones:
            stack.callback(before_forward(backbone, before).remove)
            # Whatever ended the forward, the next one is another pass.
            stack.callback(backbone.register_forward_hook(after, always_call=True).remove)

    def _pass_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
        ids = kwargs.get("input_ids")
        if ids is None:
            ids = kwargs.get("inputs_embeds") if not args else args[0]
        if ids is None:
            raise InterventionError("this forward has neither input_ids nor inputs_embeds")
        batch, n_queries = ids.shape[:2]
        cached = kwargs.get("past_key_values")
        past = cached.get_seq_length() if cached is not None else 0
        mask = kwargs.get("attention_mask")
        if mask is None:
            mask = torch.ones(batch, past + n_queries, dtype=torch.bool, device=ids.device)
        if not isinstance(mask, Tensor) or mask.ndim != 2:
            raise InterventionError(
                "this forward was handed a prepared attention mask, from which real tokens cannot be told: pass the "
                "[batch, position] mask, and do not use a static cache"
            )
        mask = mask[:, : past + n_queries].bool()
        if self._prompts is not None:
            return Pass(mask, n_queries, self._prompts.to(mask.device), generating=True)
        if self._generation is not None:
            prompt, repeats = self._generation.prompt_mask, self._generation.repeats
            return Pass(mask, n_queries, prompt.to(mask.device), repeats, generating=True)
        if past == 0:
            return Pass(mask, n_queries, mask)
        if self._pass is None or self._pass.prompt_mask.shape[0] != batch:
            raise InterventionError(
                "this forward continues a cache that was filled outside the context: run the prompt inside it too"
            )
        return Pass(mask, n_queries, self._pass.prompt_mask, generating=True)

    def _by_row(self) -> list[str]:
        """The sites at which it matters which row is which."""
        named = [str(each.site) for each in self.interventions if each.names_rows]
        return named + [str(capture.site) for capture in self.captures]

    # Following generation

    def _follow_generation(self, stack: ExitStack) -> None:
        root: Any = self.model.anatomy.root
        if not hasattr(root, "generate"):
            return
        previous = root.__dict__.get("generate")
        generate: Callable[..., Any] = root.generate

        def followed(inputs: Any = None, *args: Any, **settings: Any) -> Any:
            if get_ident() != self._thread:
                return generate(*(() if inputs is None else (inputs,)), *args, **settings)
            ids = settings.get("input_ids", inputs)
            self._generation = self._generation_of(root, ids, args, settings)
            try:
                return generate(*(() if inputs is None else (inputs,)), *args, **settings)
            finally:
                self._generation = None

        root.generate = followed
        stack.callback(_put_back, root, "generate", previous)

    def _generation_of(self, root: Any, ids: Any, args: tuple[Any, ...], settings: dict[str, Any]) -> Pass:
        if not isinstance(ids, Tensor):
            raise InterventionError("generate under interventions takes input_ids as a tensor [batch, position]")
        config = settings.get("generation_config") or (args[0] if args else None) or root.generation_config

        def setting(name: str) -> Any:
            value = settings.get(name)
            return getattr(config, name, None) if value is None else value

        beams, returns = setting("num_beams") or 1, setting("num_return_sequences") or 1
        assisted = settings.get("assistant_model") is not None or bool(setting("prompt_lookup_num_tokens"))
        by_row = self._by_row()
        if (beams > 1 or assisted) and by_row:
            how = "beam search reorders" if beams > 1 else "assisted generation tries and drops"
            raise InterventionError(
                f"{how} rows, so {by_row[0]}, which names rows, cannot hold: decode greedily or sample instead"
            )
        mask = settings.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        sites = [edit.site for edit in self.edits] + [capture.site for capture in self.captures]
        attention = any(site.kind in ATTENTION_KINDS for site in sites)
        if attention and setting("use_cache") is not False and settings.get("past_key_values") is None:
            _remember_all_keys(self.model.config, settings)
        repeats = max(beams, returns)
        return Pass(mask.bool(), ids.shape[1], mask.bool().repeat_interleave(repeats, dim=0), repeats, True)

    def _provenance(self) -> dict[str, str]:
        from circuitkit import __version__

        return {
            "circuitkit": __version__,
            "model": self.model.name,
            "revision": self.model.revision or "",
            "interventions": "; ".join(f"{each.operation} {each.site} ({each.during})" for each in self.interventions),
        }


def check_dropout(model: Model) -> None:
    """Refuse a model whose dropout is on.

    Raises:
        InterventionError: it is.
    """
    root: nn.Module = model.anatomy.root
    if any(_drops_out(module) for module in root.modules() if module.training):
        raise InterventionError(
            "the model is in training mode with dropout on, so no two runs would be alike: call model.hf.eval()"
        )


def _drops_out(module: nn.Module) -> bool:
    if isinstance(module, nn.Dropout):
        return module.p > 0
    # Many attention modules keep the rate as a number and call the function.
    return any("dropout" in name and isinstance(rate, float) and rate > 0 for name, rate in vars(module).items())


def _check_checkpointing(root: nn.Module) -> None:
    if any(getattr(module, "gradient_checkpointing", False) and module.training for module in root.modules()):
        raise InterventionError(
            "gradient checkpointing computes layers anew once the interventions are gone, so gradients would be those "
            "of another run: call model.hf.gradient_checkpointing_disable()"
        )


def _put_back(owner: Any, name: str, previous: Any) -> None:
    if previous is None:
        delattr(owner, name)
    else:
        setattr(owner, name, previous)


def _remember_all_keys(config: Any, settings: dict[str, Any]) -> None:
    """Give a sliding-window model a cache that keeps every key, so that keys stay absolute positions."""
    kinds = set(getattr(config, "layer_types", None) or [])
    sliding = "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None) is not None)
    if sliding and kinds <= {"sliding_attention", "full_attention"}:
        from transformers import DynamicCache

        settings["past_key_values"] = DynamicCache()
