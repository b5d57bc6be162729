"""A finding in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from circuitkit.thresholds.curves import words

if TYPE_CHECKING:
    from circuitkit.thresholds.finding import Threshold

_BELIEVED = ("threshold", "possible")
_SMALL = 0.1
"""A rise of fewer points than this, that is not believed, is not looked for family by family."""


def told(found: Threshold) -> list[str]:
    """Say what was looked at, whether there is a threshold, where, how sure, in which families, and what fails."""
    said = [
        _looked_at(found),
        _whether(found),
        _unsure(found),
        _where(found),
        _spread(found),
        _by_family(found),
        *_without(found),
        *_within(found),
        *_chance(found),
        *_failures(found),
    ]
    return [sentence for sentence in said if sentence]


def size(parameters: float) -> str:
    """A number of parameters as papers write it.

    >>> size(1.549e9), size(360e6), size(5_232)
    ('1.55B', '360M', '5.23k')
    """
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= 0.9995 * unit:
            return f"{parameters / unit:.3g}{name}"
    return f"{parameters:.3g}"


def _looked_at(found: Threshold) -> str:
    frame = found.frame
    n, families = len(frame), frame["family"].nunique()
    of = "one family" if families == 1 else f"{families} families"
    sizes = f"{size(frame['parameters'].min())} to {size(frame['parameters'].max())} parameters"
    return f"{found.task + ': ' if found.task else ''}{n} models of {of}, {sizes}."


def _whether(found: Threshold) -> str:
    best, smooth = words(found.best["curve"]), words(found.best_smooth["curve"])
    against = f"p = {_p(found.p)} against {words(found.hardest)}, the hardest to reject"
    gain, error = found.gain
    apart = f"{abs(gain):.2f} ± {error:.2f} nats a model, with its standard error"
    match found.verdict:
        case "flat":
            return (
                f"No threshold is told: accuracy cannot be shown to go with size (p = {_p(found.p_trend)}, permuting "
                "models)."
            )
        case "growth" if found.p < 1 - found.level:
            return f"No threshold: {best} fits better than every smooth curve ({against}), but begins no rise."
        case "growth":
            return f"No threshold is told from a smooth change with size: {best} fits no better ({against})."
        case "possible" if gain > error:
            return (
                f"A threshold is possible: {best} fits better than every smooth curve ({against}), and predicts models "
                f"that were left out better than {smooth} (by {apart}); but not whole families that were left out."
            )
        case "possible":
            better = "better" if gain < -error else "about as well"
            return (
                f"A threshold is possible: {best} fits better than every smooth curve ({against}); but {smooth} "
                f"predicts models that were left out {better} (they differ by {apart})."
            )
        case _:
            return (
                f"There is a threshold: {best} fits better than every smooth curve ({against}), and predicts models "
                f"that were left out better than {smooth} (by {apart})."
            )


def _unsure(found: Threshold) -> str:
    if found.verdict == "flat" or abs(found.p - (1 - found.level)) > 2 * found.p_error:
        return ""
    return (
        f"That p is within two standard errors ({found.p_error:.3f}, for want of draws) of {1 - found.level:.2g}: with "
        "more draws the verdict could be another."
    )


def _by_family(found: Threshold) -> str:
    told, smooth = found.gain_by_family, found.best_smooth_by_family
    if told is None or smooth is None or found.verdict not in _BELIEVED:
        return ""
    gain, error = told
    way = "better" if gain > error else "worse" if gain < -error else "about as well"
    return (
        f"Whole families left out, {words(found.best['curve'])} predicts their models {way} "
        f"{'as' if way.endswith('well') else 'than'} {words(smooth['curve'])} (they differ by {abs(gain):.2f} ± "
        f"{error:.2f} nats a model)."
    )


def _where(found: Threshold) -> str:
    if found.verdict == "flat":
        return ""
    best = found.best
    low, high = found.interval
    lies = (
        f"between {size(best['gap_low'])} and {size(best['gap_high'])}"
        if best["curve"] == "step"
        else f"at {size(found.breakpoint)}"
    )
    believed = "It lies" if found.verdict in _BELIEVED else "If there were one, it would lie"
    to = "above" if best["curve"] == "step" else "at the largest size"
    interval = f"{100 * found.level:.0f} % interval {size(low)} to {size(high)}, drawing {found.resampled}"
    nowhere = (
        ""
        if found.located
        else " The interval covers more than half of the range of sizes: it is nowhere in particular."
    )
    return (
        f"{believed} {lies} parameters ({interval}); accuracy goes from {_percent(best['before'])} before it to "
        f"{_percent(best['before'] + best['rise'])} {to}.{nowhere}"
    )


def _spread(found: Threshold) -> str:
    dispersion = float(found.best["dispersion"])
    if dispersion < 2:
        return "Models lie about the curve as chance in their questions lets them."
    return (
        f"Models lie about the curve {dispersion:.0f} times as widely (in variance) as chance in their questions would "
        "have it: what differs between models of a size counts for more than their size says."
    )


def _without(found: Threshold) -> list[str]:
    tried = found.left_out[found.left_out["breakpoint"].notna()]
    if not len(tried):
        alone = found.frame["family"].nunique() == 1
        return ["One family alone: whether another would have a threshold there cannot be said."] if alone else []
    held = tried[tried["verdict"].isin(_BELIEVED)]
    lost = tried[~tried["verdict"].isin(_BELIEVED)]
    begun = "Leaving out one family at a time"
    if not len(held):
        return [
            f"{begun}, none is found{'' if found.verdict not in _BELIEVED else ' any more, whichever is left out'}."
        ]
    low, high = held["breakpoint"].min(), held["breakpoint"].max()
    at = f"at {size(low)}" if np.isclose(low, high) else f"between {size(low)} and {size(high)}"
    said = f"{begun}, one is found without {len(held)} of {len(tried)} ({at})"
    return [said + (f"; not without {', '.join(lost['family'])}." if len(lost) else ".")]


def _within(found: Threshold) -> list[str]:
    small = found.best["rise"] < _SMALL and found.verdict not in _BELIEVED
    if found.verdict == "flat" or small or found.frame["family"].nunique() == 1:
        return []
    crossing = found.families[found.families["crosses"]]
    if not len(crossing):
        return ["No family has models on both sides of that place, so size and family cannot be told apart there."]
    each = [
        f"{row['family']} {'follows' if row['follows'] else 'does not'} ({100 * row['rise_across']:+.0f} points, "
        f"{100 * row['across_low']:+.0f} to {100 * row['across_high']:+.0f})"
        for row in crossing.to_dict("records")
    ]
    has = "family has" if len(crossing) == 1 else "families have"
    return [
        f"Within families: {len(crossing)} {has} models on both sides of that place: {', '.join(each)}; these "
        "intervals know the chance of questions alone, not how models differ."
    ]


def _chance(found: Threshold) -> list[str]:
    if found.chance is None:
        return []
    above = found.frame[found.frame["above_chance"]]
    n = len(found.frame)
    said = f"{len(above)} of {n} models are above chance ({_percent(found.chance)}, exact binomial, Holm)"
    if 0 < len(above) < n:
        not_above = found.frame[~found.frame["above_chance"]]
        said += f", the smallest of {size(above['parameters'].min())}; the largest that is not has "
        said += size(not_above["parameters"].max())
    return [said + "."]


def _failures(found: Threshold) -> list[str]:
    failing = found.frame[found.frame["failures"].str.contains("unparseable|contradiction")]
    if not len(failing):
        return []
    each = [f"{row['model']} ({row['failures']})" for row in failing.to_dict("records")]
    return [f"Signs of failure: {', '.join(each)}."]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _p(p: float) -> str:
    return f"{p:.4f}" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
