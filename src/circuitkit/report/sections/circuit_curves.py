"""What the circuit view draws of faithfulness: curves over sizes, and single circuits beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from circuitkit.circuits.evaluating.curve_outcome import AVERAGINGS

if TYPE_CHECKING:
    from circuitkit.circuits import Curve, Faithfulness


class CurveData(TypedDict):
    """How faithful circuits of growing size are, under both averagings; of which of a picture's graphs."""

    graph: int
    title: str
    by: str
    rule: str
    n_edges: int
    fractions: list[float]
    requested: list[int]
    sizes: list[int]
    found: dict[str, dict[str, Any]]
    random: dict[str, dict[str, Any]] | None
    draws: int
    undefined: str | None


class PointData(TypedDict):
    """How faithful one circuit is, under both averagings; of which of a picture's graphs."""

    graph: int
    size: int
    n_edges: int
    values: dict[str, list[float]]
    undefined: str | None


def curve_data(curve: Curve, title: str, graph: int = 0) -> CurveData:
    """What is drawn of a curve of one of a picture's graphs."""
    settings, parts = curve.settings, dict(iter(curve.frame.groupby("circuit", sort=False)))
    columns = (("faithfulness", "low", "high"), ("mean_of_ratios", "mean_of_ratios_low", "mean_of_ratios_high"))

    def told(part: str) -> dict[str, dict[str, Any]]:
        return {
            how: {
                name: parts[part][column].to_numpy()
                for name, column in zip(("value", "low", "high"), named, strict=True)
            }
            for how, named in zip(AVERAGINGS, columns, strict=True)
        }

    grown = ", grown from the logits" if settings["select"] == "greedy" else ""
    pruned = ", pruned" if settings["prune"] else ""
    outside = {"patch": "patched to the corrupt run", "mean": "at its mean", "zero": "at zero"}[settings["ablation"]]
    order = "helpfulness" if settings["by"] == "signed" else "magnitude"
    return {
        "graph": graph,
        "title": title,
        "by": str(settings["by"]),
        "rule": f"edges by {order}{grown}{pruned}; all else {outside}",
        "n_edges": int(settings["n_edges"]),
        "fractions": list(curve.fractions),
        "requested": list(curve.requested),
        "sizes": list(curve.sizes),
        "found": told("found"),
        "random": told("random") if "random" in parts else None,
        "draws": len(curve.random),
        "undefined": curve.undefined,
    }


def point_data(point: Faithfulness, graph: int = 0) -> PointData:
    """What is drawn of the faithfulness of one circuit of a picture's."""
    values = (point.value, point.mean_of_ratios)
    return {
        "graph": graph,
        "size": point.size,
        "n_edges": point.n_edges,
        "values": {how: [value, *point.interval(how)] for how, value in zip(AVERAGINGS, values, strict=True)},
        "undefined": point.undefined,
    }
