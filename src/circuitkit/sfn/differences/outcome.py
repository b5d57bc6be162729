"""What a comparison of checkpoints found, as tables and histograms, with figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from circuitkit.sfn.differences import keeping, pictures
from circuitkit.sfn.differences.bimodality import Shapes
from circuitkit.sfn.differences.joining import over_layers, pivoted
from circuitkit.sfn.differences.relative_change import Histogram
from circuitkit.sfn.errors import SelectionError
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["heatmap", "histograms", "heads", "trajectory"]
Scale = Literal["paper", "own"]


@dataclass(frozen=True, eq=False)
class Delta(Shown):
    """How the modules of one or more checkpoints B differ from those of A.

    `frame` has a row a checkpoint, module and layer:

    - `checkpoint` (B's name), `module` (its role; "embed+lm_head" where they are tied), `layer` (−1 outside the
      layers), `name` (of the module), `expert` (−1 where it is none's), `elements`, `dtype_a`, `dtype_b`;
    - of the weight: `norm` (L2, of B − A), `norm_a`, `norm_b`, `relative` (norm / norm_a), `rms` (norm / √elements),
      `cosine` (of A and B), `cosine_with_a` (of B − A and A), `unchanged` (the share of entries with one value in both)
      and `stable_rank` (of B − A; NaN of a vector, or where it was not asked for);
    - `bias_norm` (of the bias's change; NaN without a bias) and `combined`, the norms of weight and bias added up, as
      the paper's heat maps have it;
    - where modes were asked for, what `bimodality.Bimodality` lists, of a sample, with `p_corrected` over all rows of a
      checkpoint (Benjamini-Hochberg), and the `verdict` with the sentence that says why (`because`); see
      `verdicts.Judgement`.

    Attributes:
        frame: as above.
        heads: a row a head of an attention projection, with `head` and the measures of the weight; key/value heads of
            k_proj and v_proj. Empty where heads were not asked for.
        trajectory: a row a checkpoint and module: `step` (the number its name ends with, or 1, 2, …), the measures
            against A, and from the checkpoint before (the first's is A): `step_norm`, `step_cosine`, `onward` (the
            cosine of the step with the way so far), `path` (the sum of steps) and `straightness` (norm / path).
        histograms: a histogram of relative change for each row of `frame`, of all its weights; none where none was
            asked for.
        shapes: beside them, histograms of the sample and its controls; none without modes.
        provenance: the checkpoints with their revisions, settings, versions, command.
    """

    frame: pd.DataFrame
    heads: pd.DataFrame
    trajectory: pd.DataFrame
    histograms: tuple[Histogram, ...]
    shapes: tuple[Shapes, ...]
    provenance: Mapping[str, Any]

    @property
    def a(self) -> str:
        """The name of A."""
        return str(self.provenance["a"]["name"])

    @cached_property
    def checkpoints(self) -> tuple[str, ...]:
        """The names of the checkpoints that are held against A, in their order."""
        return tuple(self.frame["checkpoint"].unique())

    def histogram(self, module: str, layer: int, checkpoint: str | None = None) -> Histogram:
        """The histogram of a module in a layer; of several there (experts, norms), all of them together.

        Raises:
            SelectionError: there is none.
        """
        rows = self._rows(checkpoint, module, layer)
        if not self.histograms or not len(rows):
            raise SelectionError(f"there is no histogram of {module} in layer {layer}")
        found = [self.histograms[index] for index in rows.index]
        counts = np.sum([each.counts for each in found], axis=0)
        return Histogram(counts, found[0].formula, sum(e.zeros for e in found), sum(e.beyond for e in found))

    def table(
        self, of: str = "combined", modules: Iterable[str] | None = None, checkpoint: str | None = None
    ) -> pd.DataFrame:
        """One measure, a row a layer and a column a module; the last checkpoint's unless another is named.

        Where a layer has several of a module (experts, norms), norms and cosines are those of all their weights as one,
        and other measures are means. Modules are those of attention and MLP unless others are named.

        Raises:
            SelectionError: there is no such measure, module or checkpoint.

        >>> delta = ck.sfn.delta("deductor-20k-base", "deductor-20k", progress=False)
        >>> list(delta.table("relative").columns)[:4]
        ['q_proj', 'k_proj', 'v_proj', 'o_proj']
        """
        return pivoted(self._rows(checkpoint), of, None if modules is None else tuple(modules))

    def by_module(self, checkpoint: str | None = None) -> pd.DataFrame:
        """A row a module, over all its layers: norms and cosines as of one weight, and how often which verdict."""
        return over_layers(self._rows(checkpoint))

    def plot(
        self,
        kind: Kind = "heatmap",
        *,
        of: str | None = None,
        modules: Iterable[str] | None = None,
        layers: Iterable[int] | None = None,
        checkpoint: str | None = None,
        scale: Scale = "paper",
        axes: Axes | None = None,
    ) -> Axes:
        """Draw what was found, and give the axes (of several panels the first one's; `.figure` has them all).

        Args:
            kind: `heatmap`, a measure by layer and module; `histograms`, of relative change beside its controls;
                `heads`, a measure by layer and head; or `trajectory`, a measure by step.
            of: the measure: `combined` in the heat map, as in the paper, and `relative` elsewhere, unless named.
            modules: those of attention and MLP, or, of heads, those that have some.
            layers: of histograms: every fifth from the first, as in the paper, where there are more than ten.
            checkpoint: which, of several; the last.
            scale: of histograms: "paper", 200 bins over [−1, 1] of all weights; or "own", 40 bins over the middle 80 %
                of each module's sample, which shows modes that are narrower than one of the paper's bins.
            axes: to draw on, where there is one panel.

        Raises:
            SelectionError: there is no such measure, module, layer or checkpoint, or it was not asked for.
        """
        rows = self._rows(checkpoint)
        names = None if modules is None else tuple(modules)
        title = f"{rows['checkpoint'].iloc[0]} against {self.a}"
        if kind == "heatmap":
            return pictures.heat_map(pivoted(rows, of or "combined", names), of or "combined", title, axes)
        if kind == "heads":
            shown = (
                self.heads[self.heads["checkpoint"] == rows["checkpoint"].iloc[0]] if len(self.heads) else self.heads
            )
            return pictures.heads(shown, of or "relative", names, title)
        if kind == "trajectory":
            return pictures.steps(self.trajectory, of or "relative", names, f"Away from {self.a}", axes)
        if kind == "histograms":
            found = pictures.Found(rows, self.histograms, self.shapes)
            return pictures.histograms(found, names, None if layers is None else tuple(layers), scale, title)
        raise SelectionError(f"a plot is 'heatmap', 'histograms', 'heads' or 'trajectory', not {kind!r}")

    def _rows(self, checkpoint: str | None = None, module: str | None = None, layer: int | None = None) -> pd.DataFrame:
        name = self.checkpoints[-1] if checkpoint is None else checkpoint
        if name not in self.checkpoints:
            raise SelectionError(f"{name!r} was not compared; compared were {', '.join(self.checkpoints)}")
        rows = self.frame[self.frame["checkpoint"] == name]
        if module is not None:
            rows = rows[rows["module"] == module]
        return rows if layer is None else rows[rows["layer"] == layer]

    def save(self, path: str | Path) -> Path:
        """Write all of it to one safetensors file, whole or not at all, and give its path; a folder names it itself.

        Raises:
            ValueError: the file has another suffix.
        """
        return keeping.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Delta:
        """Read what `save` wrote, from its file or its folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is cut short, or holds something else.
        """
        return cls(**keeping.load(path))

    def _title(self) -> str:
        return f"Delta: {self.a} to {self.checkpoints[-1]}"

    def _strongest(self) -> pd.DataFrame:
        ranked = self.by_module().sort_values("relative", ascending=False, kind="stable")
        return ranked[["module", "weights", "elements", "norm_a", "norm_b", "norm", "relative", "cosine"]]

    def __repr__(self) -> str:
        rows = self._rows()
        ranked = rows.dropna(subset=["relative"]).sort_values("relative", ascending=False)
        most = "nothing that it could be relative to"
        if len(ranked):
            first = ranked.iloc[0]
            where = f" of layer {first['layer']}" if first["layer"] >= 0 else ""
            most = f"{first['module']}{where} moved most, by {first['relative']:.2g} of its norm"
        others = f" after {len(self.checkpoints) - 1} others" if len(self.checkpoints) > 1 else ""
        return f"Delta({self.a!r} to {self.checkpoints[-1]!r}{others}: {len(rows)} modules; {most})"
