"""Figures of the study: accuracy and heads over the steps of each training, and when each head is active."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dynamics.study import Followed

# Okabe and Ito's colours; marks tell them apart in grey.
LOOKS = {"sft": ("#0072B2", "o"), "distillation": ("#009E73", "^"), "grpo": ("#D55E00", "s")}
_PANELS = {
    "accuracy": "right answers (%)",
    "kept": "heads of the start that are active (%)",
    "new": "new heads that are active",
    "turnover": "heads that came or went",
}


def curves(checkpoints: pd.DataFrame) -> Figure:
    """Draw accuracy, kept, new and changing heads over the steps: thin lines are seeds, thick ones their means."""
    figure = Figure(figsize=(9.4, 6.8), layout="constrained")
    panels = figure.subplots(-(-len(_PANELS) // 2), 2).ravel()
    for axes, (name, label) in zip(panels, _PANELS.items(), strict=True):
        factor = 100 if name in ("accuracy", "kept") else 1
        for method, own in checkpoints.groupby("method", sort=False):
            colour, mark = LOOKS[str(method)]
            for _, run in own.groupby("seed"):
                axes.plot(run["step"], factor * run[name], color=colour, alpha=0.35, linewidth=0.9)
            mean = own.groupby("step")[name].mean()
            axes.plot(mean.index, factor * mean, f"{mark}-", color=colour, markersize=4, label=str(method))
        if name == "turnover":
            noise = checkpoints.groupby("step")["noise"].mean()
            axes.plot(noise.index, noise, ":", color="0.3", label="by other prompts alone")
        axes.set(xlabel="step", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        if factor == 100:
            axes.set_ylim(-3, 103)
    handles, said = panels[-1].get_legend_handles_labels()
    figure.legend(handles, said, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle("Trainings of one start: thin lines are seeds, thick ones their means", fontsize=10)
    return figure


def activity(followed: Sequence[Followed]) -> Figure:
    """Draw which heads are active at each checkpoint: a panel a method, how many seeds have it in the shade."""
    methods = list(dict.fromkeys(each.run.method for each in followed))
    figure = Figure(figsize=(1.4 + 3.6 * len(methods), 4.6), layout="constrained")
    panels = figure.subplots(1, len(methods), squeeze=False, sharey=True)[0]
    for axes, method in zip(panels, methods, strict=True):
        own = [each for each in followed if each.run.method == method]
        image = _activity(axes, own)
        axes.set_title(f"{method} ({len(own)} seeds)", fontsize=9)
    figure.colorbar(image, ax=list(panels), label="share of seeds that have the head in the circuit", shrink=0.8)
    figure.suptitle("Heads of the circuit over training; the start is step 0", fontsize=10)
    return figure


def _activity(axes: Axes, own: Sequence[Followed]) -> AxesImage:
    cohorts = [each.cohorts for each in own]
    there = cohorts[0].there
    shares = np.mean([np.concatenate([each.base[None].numpy(), each.active.numpy()]) for each in cohorts], axis=0)
    table = np.array([shares[:, layer, head] for layer, head in there.nonzero().tolist()])
    names = [f"L{layer}H{head}" for layer, head in there.nonzero().tolist()]
    image = axes.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    steps = [0, *cohorts[0].steps]
    every = max(1, len(steps) // 6)
    axes.set_xticks(range(0, len(steps), every), [str(step) for step in steps[::every]], fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=7 if len(names) < 40 else 4)
    axes.set_xlabel("step")
    return image


def against(checkpoints: pd.DataFrame) -> Figure:
    """Draw heads kept against accuracy, training by training, each a line from its start."""
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for method, own in checkpoints.groupby("method", sort=False):
        colour, mark = LOOKS[str(method)]
        for number, (_, run) in enumerate(own.sort_values("step").groupby("seed")):
            label = str(method) if number == 0 else None
            axes.plot(
                100 * run["accuracy"], 100 * run["kept"], f"{mark}-", color=colour, alpha=0.6, markersize=4, label=label
            )
    axes.set(xlabel="right answers (%)", ylabel="heads of the start that are active (%)", ylim=(-3, 103))
    axes.set_title("Survival of heads against accuracy, each line a training", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
