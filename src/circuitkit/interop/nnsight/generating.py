"""Generation under interventions: what each decoding step does is known before the first."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.interop.nnsight import far_side
from circuitkit.interop.nnsight.limits import EngineError, refusal
from circuitkit.interop.nnsight.programs import Program
from circuitkit.interop.nnsight.recipes import check_fired
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.run.edits import Edit

if TYPE_CHECKING:
    from circuitkit.interop.nnsight.engine import NnsightModel

#: Ways of decoding that reorder rows, or run more or other passes than one a token.
_OTHER_DECODING: Mapping[str, Any] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "use_cache": True,
    "assistant_model": None,
    "prompt_lookup_num_tokens": None,
    "generation_config": None,
    "past_key_values": None,
}


class Generation:
    """One call of `NnsightModel.generate`.

    Raises:
        EngineError: more than ids is asked for, or interventions are held and cannot follow these settings.
    """

    def __init__(self, model: NnsightModel, tokens: Tokens, settings: Mapping[str, Any]) -> None:
        self.model, self.tokens, self.settings = model, tokens, dict(settings)
        self.edits: list[Edit] = [edit for session in model.sessions for edit in session.edits]
        if settings.get(
            "return_dict_in_generate", getattr(settings.get("generation_config"), "return_dict_in_generate", False)
        ):
            raise refusal("return_dict_in_generate", model.name)
        if self.edits:
            self._check_decoding()

    def ids(self) -> Int[Tensor, "row column"]:
        """Prompt and continuation."""
        from nnsight import save

        traced, remote = self.model.traced, self.model.remote
        batch = {"input_ids": self.tokens.ids, "attention_mask": self.tokens.mask.long()}
        settings, programs, carry_out = self.settings, self._programs(), far_side.carry_out
        last = max(programs, default=-1)
        with torch.no_grad(), warnings.catch_warnings():
            # Where every row ends early, the steps that were prepared for never come.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"nnsight\..*")
            with traced.generate(remote=remote, **settings) as tracer:
                with tracer.invoke(batch):
                    ids = save(tracer.result)
                if last >= 0:
                    with tracer.invoke():
                        for step in tracer.iter[: last + 1]:
                            carry_out(traced, programs[step])
        result: Tensor = ids
        return result.cpu()

    def _programs(self) -> dict[int, Program]:
        """What is done in each pass, from the prompt's on; none where nothing is held."""
        if not self.edits:
            return {}
        recipes = self.model.recipes([(0, self.edits)], generating=True)
        made = {
            step: self.model.programs.of(recipes, (), None, now)
            for step, now in enumerate(_passes(self.tokens.mask, int(self.settings["max_new_tokens"])))
        }
        check_fired(recipes, "no token is generated that it names (the last one generated is never read)")
        return made

    def _check_decoding(self) -> None:
        if not isinstance(self.settings.get("max_new_tokens"), int):
            raise EngineError(
                f"{self.model.name} on nnsight: under interventions, say max_new_tokens: each step is sent beforehand"
            )
        for name, usual in _OTHER_DECODING.items():
            if self.settings.get(name, usual) not in (usual, None):
                raise refusal("decoding", f"{self.model.name}, {name}={self.settings[name]!r}")


def _passes(mask: Tensor, max_new_tokens: int) -> list[Pass]:
    """The prompt's pass, and one for each token but the last."""
    passes = [Pass(mask, mask.shape[1], mask, generating=True)]
    for new in range(1, max_new_tokens):
        longer = torch.cat([mask, mask.new_ones(len(mask), new)], dim=1)
        passes.append(Pass(longer, 1, mask, generating=True))
    return passes
