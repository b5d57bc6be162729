"""PrOntoQA-OOD: deductions over a fictional ontology, their proofs, and a judge of proofs.

Sources: Saparov et al. 2023 (the six rules and the language); Hsiao & Dutta 2025, arXiv 2502.15120 (prompts).
"""

from circuitkit.tasks.prontoqa.evaluations import task
from circuitkit.tasks.prontoqa.language import words
from circuitkit.tasks.prontoqa.lexicon import part_of_speech
from circuitkit.tasks.prontoqa.prompt_files import prompt_file
from circuitkit.tasks.prontoqa.questions import Example, generate, sample
from circuitkit.tasks.prontoqa.shapes import ONE_HOP_RULES, RULES, Distractors
from circuitkit.tasks.prontoqa.verdict import Step, Verdict, judge

__all__ = [
    "ONE_HOP_RULES",
    "RULES",
    "Distractors",
    "Example",
    "Step",
    "Verdict",
    "generate",
    "judge",
    "part_of_speech",
    "prompt_file",
    "sample",
    "task",
    "words",
]
