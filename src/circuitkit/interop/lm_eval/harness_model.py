"""circuitkit's model as lm-eval knows models: its own `hf` model, with interventions held while it reads and writes."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from circuitkit.evaluation.writing import end_tokens
from circuitkit.interop.lm_eval.arguments import ASKING, loaded
from circuitkit.interop.lm_eval.checks import check_model, check_sessions
from circuitkit.interop.lm_eval.endings import Ending, Endings, ending_of
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.interop.lm_eval.likelihoods import Request, likelihoods, row_of
from circuitkit.interop.lm_eval.logs import quiet
from circuitkit.model import Model, load
from circuitkit.run.interventions import Intervention, Interventions
from circuitkit.run.run import nan_advice, nan_row


class _NoNaN(LogitsProcessor):
    """Looks at the logits that tokens are chosen by, and changes nothing."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if (row := nan_row(scores)) is not None:
            raise HarnessError(f"the logits of row {row} hold NaN: {nan_advice(self.model)}")
        return scores


@register_model("circuitkit")
class HarnessModel(HFLM):  # type: ignore[misc]  # lm_eval has no types
    """A circuitkit model that lm-evaluation-harness evaluates, interventions and all.

    Without interventions it computes what lm-eval's `hf` model does, by the same code. With them, a context is the
    prompt: negative positions count from its end, `during="generated"` holds on what is written behind it and on the
    continuation whose likelihood is asked for. They hold with a KV cache; positions count real tokens, never padding.

    Attributes:
        circuit_model: the model.
        interventions: what holds throughout.
        endings: how each response of the last `generate_until` ended, in the order of its requests.

    Args:
        model: a model, or a name that `circuitkit.load` takes.
        interventions: what holds while it reads and writes.
        progress: show lm-eval's bars.
        settings: those of lm-eval's `hf` model that say how it is asked: batch_size, max_batch_size, max_length,
            add_bos_token, prefix_token_id, truncation, logits_cache, softmax_dtype, mixed_precision_dtype,
            think_end_token, enable_thinking, chat_template_args.

    Raises:
        HarnessError: the model has no tokenizer or runs elsewhere, an intervention names the rows of one batch, there
            is no such setting, or lm-eval would tie weights that are not tied.
        InterventionError: in a call, an intervention never took place, or does not fit.

    >>> harness = HarnessModel("deductor-130k", [ck.zero("z[layer=1, head=2]")])
    >>> harness.interventions[0].site, harness.max_length
    (z[layer=1, head=2], 2048)
    """

    def __init__(
        self, model: Model | str, interventions: Interventions = (), *, progress: bool = True, **settings: Any
    ) -> None:
        self.circuit_model = load(model) if isinstance(model, str) else model
        self.interventions = [interventions] if isinstance(interventions, Intervention) else list(interventions)
        self.progress = progress
        self.endings: list[Ending] = []
        self._endings = Endings()
        check_model(self.circuit_model, self.interventions)
        # lm-eval passes over what it does not know, and a misspelt setting would do nothing.
        if unknown := [name for name in settings if name not in ASKING]:
            raise HarnessError(f"lm-eval's model has no setting {unknown[0]!r} here; it has {', '.join(ASKING)}")
        # The harness gives a tokenizer without a pad token one, which is not to show in the model's own.
        tokenizer = copy.deepcopy(self.circuit_model.tokenizer)
        if settings.get("add_bos_token") is not None and hasattr(tokenizer, "add_bos_token"):
            tokenizer.add_bos_token = settings["add_bos_token"]
        with quiet():
            super().__init__(pretrained=self.circuit_model.hf, tokenizer=tokenizer, backend="causal", **settings)
        self._device = self.circuit_model.device

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> HarnessModel:
        """Make it of the text of lm-eval's `--model_args`; see `circuitkit.interop.lm_eval.arguments`."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None
    ) -> HarnessModel:
        """Make it of lm-eval's model arguments: pretrained, ablate, scale, knockout, and settings of either kind.

        Raises:
            HarnessError: see `circuitkit.interop.lm_eval.arguments.loaded`.
        """
        given = {name: value for name, value in (additional_config or {}).items() if value is not None}
        if str(given.get("device", "")).startswith("cuda") and not torch.cuda.is_available():
            # lm-eval's command asks for a GPU where nobody did, and its own model then runs where it can.
            del given["device"]
        model, interventions, settings = loaded({**given, **arg_dict})
        return cls(model, interventions, **settings)

    # Log-likelihoods

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """The log-likelihood of continuations behind contexts (nats), and whether greedy decoding writes them."""
        with self._holding():
            found: list[tuple[float, bool]] = super().loglikelihood(
                requests, disable_tqdm=disable_tqdm or not self.progress
            )
        for request, (likelihood, _) in zip(requests, found, strict=True):
            self._check_number(likelihood, request)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts (nats), read in windows that share no token that is asked for."""
        with self._holding():
            found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm or not self.progress)
        for request, likelihood in zip(requests, found, strict=True):
            self._check_number(likelihood, request)
        return found

    def _check_number(self, likelihood: float, request: Any) -> None:
        if math.isnan(likelihood):
            said = str(request.args[-1])[:60]
            raise HarnessError(f"the log-likelihood of {said!r} is NaN: {nan_advice(self.circuit_model)}")

    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        self._warn_of_cuts(requests)
        if not self._held:
            for request in requests:
                row_of(request, self.max_length)  # refuses what cannot be asked
            whole: list[tuple[float, bool]] = super()._loglikelihood_tokens(
                requests, disable_tqdm or not self.progress, override_bs
            )
            return whole
        if not requests:
            return []
        size = override_bs or self.batch_size
        if size == "auto":
            # As the harness, which tries the longest; it sorts them itself.
            longest = sorted(requests, key=lambda each: -len(each[1]) - len(each[2]))
            size = self._detect_batch_size(longest)
        found = likelihoods(self, requests, int(size), self.progress and not disable_tqdm)
        for request, answer in zip(requests, found, strict=True):
            if request[0] is not None:
                self.cache_hook.add_partial("loglikelihood", request[0], answer)
        return found

    def _warn_of_cuts(self, requests: Sequence[Request]) -> None:
        lengths = [len(context) + len(continuation) - 1 for _, context, continuation in requests]
        if cut := sum(length > self.max_length for length in lengths):
            warnings.warn(
                f"{cut} of {len(lengths)} contexts with their continuations have up to {max(lengths)} tokens, and lose "
                f"their beginning: the model reads {self.max_length}",
                stacklevel=2,
            )

    def read(
        self, ids: Int[Tensor, "row column"], real: Bool[Tensor, "row column"], prompt: Bool[Tensor, "row column"]
    ) -> Float[Tensor, "row column vocab"]:
        """The logits of a batch under what is held on the model.

        Args:
            ids: token ids, padding included.
            real: True on real tokens.
            prompt: True on those of the prompt; the others count as generated.
        """
        sessions = list(self.circuit_model.sessions)
        for session in sessions:
            session.follow(prompt)
        try:
            with torch.no_grad(), self._precision():
                logits: Tensor = self.circuit_model.hf(input_ids=ids, attention_mask=real.long()).logits
        finally:
            for session in sessions:
                session.follow(None)
        return logits

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        if not self._held:
            whole: Tensor = super()._model_call(inps, attn_mask, labels)
            return whole
        # Rows without padding, such as those that a batch size is tried with.
        real = torch.ones_like(inps, dtype=torch.bool)
        return self.read(inps, real, real)

    def _precision(self) -> torch.autocast:
        dtype = self.mixed_precision_dtype
        return torch.autocast(device_type=self.device.type, dtype=dtype, enabled=dtype is not None)

    def _detect_batch_size(self, requests: Sequence[Request] | None = None, pos: int = 0) -> int:
        # What a try on made-up tokens reaches says nothing of whether an intervention took place.
        before = [(edit, edit.fired) for session in self.circuit_model.sessions for edit in session.edits]
        size: int = super()._detect_batch_size(requests, pos)
        for edit, fired in before:
            edit.fired = fired
        return size

    # Generation

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The responses to contexts, up to their stop texts; how each ended is in `endings`."""
        found: dict[int, tuple[str, Ending]] = {}
        with self._holding():
            # As the harness groups them, so that of one context asked in two ways it is known which is which.
            for numbers in _alike([request.args[1] for request in requests]):
                self._endings = Endings()
                asked = [requests[at] for at in numbers]
                texts = super().generate_until(asked, disable_tqdm=disable_tqdm or not self.progress)
                ended = self._endings.in_order([request.args[0] for request in asked])
                found.update(zip(numbers, zip(texts, ended, strict=True), strict=True))
        self.endings = [found[at][1] for at in range(len(requests))]
        return [found[at][0] for at in range(len(requests))]

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Texts as a padded batch of tokens and its mask, cut from the left to `left_truncate_len`."""
        self._contexts = list(strings)
        ids, mask = super().tok_batch_encode(list(strings), padding_side, None, truncation)
        lengths = mask.sum(-1).tolist()
        if 0 in lengths:
            raise HarnessError(f"the context {self._contexts[lengths.index(0)]!r} has no tokens: a prompt needs one")
        if not left_truncate_len:
            self._cut = [False] * len(lengths)
            return ids, mask
        self._cut = [length > left_truncate_len for length in lengths]
        if any(self._cut):
            warnings.warn(
                f"{sum(self._cut)} of {len(lengths)} prompts have up to {max(lengths)} tokens, and lose their "
                f"beginning: {left_truncate_len} are left beside what may be generated",
                stacklevel=2,
            )
        return ids[:, -left_truncate_len:], mask[:, -left_truncate_len:]

    def _model_generate(self, context: Tensor, max_length: int, stop: list[str], **settings: Any) -> Tensor:
        settings["logits_processor"] = LogitsProcessorList([_NoNaN(self.circuit_model)])
        written: Tensor = super()._model_generate(context=context, max_length=max_length, stop=stop, **settings)
        ends = end_tokens(self.circuit_model, settings.get("eos_token_id"))
        lengths = settings["attention_mask"].sum(-1).tolist()
        rows = written[:, context.shape[1] :].tolist()
        for text, ids, length, cut in zip(self._contexts, rows, lengths, self._cut, strict=True):
            self._endings.add(text, ending_of(ids, self.tokenizer, stop, ends, length, cut))
        return written

    # What is held

    @property
    def _held(self) -> bool:
        """Whether anything acts on the model, the contexts included that its user has opened."""
        return bool(self.circuit_model.sessions)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """Hold the interventions over a whole call, at whose end each has to have taken place."""
        check_sessions(self.circuit_model)
        with self.circuit_model.intervene(self.interventions) if self.interventions else nullcontext():
            yield

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes beside results: the model, its precision and what was held on it. No hub is asked."""
        model = self.circuit_model
        return {
            "model_num_parameters": sum(parameter.numel() for parameter in model.hf.parameters()),
            "model_dtype": model.hf.dtype,
            "model_revision": model.revision or "",
            "model_name": model.name,
            "model_interventions": [f"{each.operation} {each.site} ({each.during})" for each in self.interventions],
        }


def _alike(settings: Sequence[Any]) -> list[list[int]]:
    """The numbers of requests with equal settings, in the order in which these first come."""
    groups: list[tuple[Any, list[int]]] = []
    for number, each in enumerate(settings):
        group = next((numbers for known, numbers in groups if known == each), None)
        if group is None:
            groups.append((each, [number]))
        else:
            group.append(number)
    return [numbers for _, numbers in groups]
