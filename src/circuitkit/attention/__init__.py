"""Attention: patterns captured, and tokens scored by what they receive."""

from circuitkit.attention.patterns import Attention, capture
from circuitkit.attention.scoring import token_scores

__all__ = ["Attention", "capture", "token_scores"]
