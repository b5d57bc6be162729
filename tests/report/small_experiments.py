"""Folders of the experiments' scripts on the embedded models, each as small as leaves every table and figure there."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

DEDUCTORS = ["deductor-5k", "deductor-20k", "deductor-60k", "deductor-130k", "deductor-60k-base=base"]
HOPS = ["prontoqa/implication_elimination/1"]
ALONE = {"workers": 1, "progress": False}

EXPERIMENTS: Mapping[str, Mapping[str, Any]] = {
    "thresholds": {"models": DEDUCTORS, "n": 4, "draws": 19, "tasks": HOPS, "equal_shots": True},
    "attention_causality": {"models": DEDUCTORS[0:4:3], "n": 12, "forced_n": 6, "k": (2,), "draws": 1},
    "architecture": {"quick": True, "progress": False},
    "elicitation": {"workers": 1},
    "emergent_heads": {"preset": "quick", **ALONE},
    "finetuning": {"progress": False},
    "training_dynamics": {"preset": "quick", **ALONE},
    "who_reasons": ALONE,
}
"""Scripts of `experiments`, and what makes each a study of the embedded models that takes seconds."""


def make(name: str, within: Path) -> Path:
    """The folder that the script of `name` writes, run in `within`."""
    with pytest.MonkeyPatch.context() as patch:
        for plans, small in (("eliciting", _elicitation), ("tuning", _tuning), ("stethoscope", _stethoscope)):
            small(patch, importlib.import_module(f"{plans}.plans"))
        importlib.import_module(name).main(out=(folder := within / name), **EXPERIMENTS[name])
    return folder


def _elicitation(patch: pytest.MonkeyPatch, plans: Any) -> None:
    few = replace(plans.SMALL, examples=(29,), steps=4, every=2, tokens=200)
    asked = importlib.import_module("eliciting.proofs").Questions(n=3)
    patch.setitem(plans.PLANS, "small", (few, ("5k", "20k"), asked))


def _tuning(patch: pytest.MonkeyPatch, plans: Any) -> None:
    small = plans.SMALL
    fewer = replace(
        small,
        models=("deductor-20k-base", "deductor-20k-base-newlines"),
        trials=8,
        n=8,
        tuning=replace(small.tuning, epochs=1),
        transferring=replace(small.transferring, steps=8),
        staged_steps=9,
        after=2,
        grpo=replace(small.grpo, max_new_tokens=24),
        max_new_tokens=32,
    )
    patch.setitem(plans.PRESETS, "small", fewer)


def _stethoscope(patch: pytest.MonkeyPatch, plans: Any) -> None:
    asking = importlib.import_module("stethoscope.asking")
    way = plans.trainings(3, (1e-2,))
    freezing = replace(
        plans.SMALL.freezing[0],
        base="deductor-20k-base",
        reference="deductor-20k-reason",
        taught=asking.TaughtProofs(n=40, held_out=8),
        way=way,
        whole=way,
        controls=1,
        near=None,
    )
    least = replace(
        plans.SMALL,
        pairs=(plans.twins("20k", controls=2, others=1, rows=1, destroyed=1),),
        asked=asking.Deductions(n=1, texts=4, max_new_tokens=24),
        freezing=(freezing,),
        hows=("remove",),
        each_layer=False,
    )
    patch.setitem(plans.PRESETS, "small", least)
