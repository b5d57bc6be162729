"""A decoder, tapped: the model, its sites, and how an architecture is read."""

from circuitkit.model.anatomy import AnatomyError, Names
from circuitkit.model.attention import AttentionTapError
from circuitkit.model.loading import LoadError, load
from circuitkit.model.model import Model
from circuitkit.model.site import KINDS, Kind, Site, SiteError
from circuitkit.model.tokens import Pass, PromptError, Prompts, Tokens

__all__ = [
    "KINDS",
    "AnatomyError",
    "AttentionTapError",
    "Kind",
    "LoadError",
    "Model",
    "Names",
    "Pass",
    "PromptError",
    "Prompts",
    "Site",
    "SiteError",
    "Tokens",
    "load",
]
