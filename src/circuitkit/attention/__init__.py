"""Attention: patterns captured and changed, and tokens scored by what they receive."""

from circuitkit.attention.choosing import most_attended, overlap, parts_of_speech, random_tokens, received
from circuitkit.attention.cutting import edges
from circuitkit.attention.gold import GoldScores, gold_scores
from circuitkit.attention.head_scores import HeadScores, score_heads
from circuitkit.attention.interventions import force, freeze
from circuitkit.attention.outcomes import against_accuracy, by_outcome
from circuitkit.attention.patching import transplant
from circuitkit.attention.patterns import Attention, capture
from circuitkit.attention.precisions import Agreement, agreement
from circuitkit.attention.prefixes import NotCausalError
from circuitkit.attention.profiles import Profile, profile
from circuitkit.attention.scoring import token_scores
from circuitkit.attention.streamed import TokenScores, scores
from circuitkit.attention.strongest import TopEdges, top_edges
from circuitkit.attention.tagging import Lexicon, Spacy, Tagger

__all__ = [
    "Agreement",
    "Attention",
    "GoldScores",
    "HeadScores",
    "Lexicon",
    "NotCausalError",
    "Profile",
    "Spacy",
    "Tagger",
    "TokenScores",
    "TopEdges",
    "against_accuracy",
    "agreement",
    "by_outcome",
    "capture",
    "edges",
    "force",
    "freeze",
    "gold_scores",
    "most_attended",
    "overlap",
    "parts_of_speech",
    "profile",
    "random_tokens",
    "received",
    "score_heads",
    "scores",
    "token_scores",
    "top_edges",
    "transplant",
]
