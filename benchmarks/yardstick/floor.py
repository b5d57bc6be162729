"""The floor of a sweep: the work that no exact method can avoid, at the rate of a plain forward.

Counted are the matrix products whose input can differ from the base run's, and no others:

- nothing below the first layer that a cell touches, and no column before the first that it changes;
- in that layer, of attention only the patched head's slice of the output projection where `z` is patched, and queries,
  keys and values of the patched column alone where the stream is (`resid_pre`): columns behind it meet the change only
  in attention;
- in the last layer, keys and values of columns that changed, but a query, the output projection and the MLP only of the
  column whose logits are read;
- those logits, and one base run.

Norms, activations, softmax and embeddings are not counted, neither here nor in the forward that gives the rate, whose
time includes them. Two rates are taken: `best`, of the batch size at which a plain forward does most operations a
second, which is the harder one and the one that targets mean; and `own`, of a plain forward of the sweep's own prompts.
On a model so small that a forward's time is mostly Python's, only a large batch comes near the machine's rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

import circuitkit as ck
from yardstick.clock import Clock
from yardstick.shapes import LENGTH, Prompts

_MOST_ROWS = 1024


@dataclass(frozen=True)
class Layer:
    """A layer's matrix products, in floating-point operations.

    Attributes:
        queries: a column's query projection.
        keys_and_values: a column's key and value projections.
        output: a column's output projection.
        mlp: a column's MLP.
        attention: a query's scores against one key, and that key's value weighed by them.
    """

    queries: float
    keys_and_values: float
    output: float
    mlp: float
    attention: float

    @classmethod
    def of(cls, model: ck.Model, layer: int) -> "Layer":
        block, taps = model.anatomy.blocks[layer], model.layers[layer]
        if block.mlp is None or taps.d_head is None:
            raise SystemExit(f"layer {layer} of {model.name} has no attention or no MLP: its floor is not known")
        d, q, kv = model.d_model, model.n_heads(layer) * taps.d_head, 2 * model.n_kv_heads(layer) * taps.d_head
        mlp = sum(weight.numel() for weight in block.mlp.parameters() if weight.ndim == 2)
        counted = d * (q + kv) + q * d + mlp
        held = sum(weight.numel() for weight in block.block.parameters() if weight.ndim == 2)
        if counted != held:
            raise SystemExit(f"layer {layer} of {model.name} multiplies by {held} weights, and {counted} are counted")
        return cls(2 * d * q, 2 * d * kv, 2 * q * d, 2 * mlp, 4 * q)

    def whole(self, first: int, length: int, changed: int | None = None) -> float:
        """Of columns from `first` on, of which only `changed` differ in the stream that enters (all, if None)."""
        columns = length - first
        changed = columns if changed is None else changed
        keys = columns * (first + 1 + length) / 2
        projections = changed * (self.queries + self.keys_and_values)
        return projections + keys * self.attention + columns * (self.output + self.mlp)

    def last(self, changed: int, read_changes: bool, length: int) -> float:
        """Of the last layer, where one column is read."""
        query = self.queries if read_changes else 0.0
        return changed * self.keys_and_values + query + length * self.attention + self.output + self.mlp


def forward_operations(model: ck.Model, length: int = LENGTH) -> float:
    """Of one row of a plain forward, with one position's logits."""
    return sum(Layer.of(model, at).whole(0, length) for at in range(model.n_layers)) + _logits(model)


def cell_operations(model: ck.Model, over: str, layer: int, first: int, length: int = LENGTH) -> float:
    """Of one row of a cell that patches `z` of a layer from a column on, or `resid_pre` at that column.

    >>> model = ck.load("deductor-130k")
    >>> cell_operations(model, "z", 2, 8) < cell_operations(model, "resid_pre", 2, 8) < forward_operations(model)
    True
    """
    total, end = _logits(model), model.n_layers - 1
    for at in range(layer, model.n_layers):
        here = Layer.of(model, at)
        if at == layer and over == "z":
            total += (1 if at == end else length - first) * (here.output / model.n_heads(at) + here.mlp)
        elif at == layer:
            reads = first == length - 1
            total += here.last(1, reads, length) if at == end else here.whole(first, length, changed=1)
        else:
            total += here.last(length - first, True, length) if at == end else here.whole(first, length)
    return total


def sweep_operations(
    model: ck.Model, over: str, at: Sequence[tuple[int, int]], prompts: int, corrupted: int, length: int = LENGTH
) -> float:
    """Of a sweep's cells at these layers and heads or positions, and its base run; unchanged columns cost nothing."""
    known: dict[tuple[int, int], float] = {}
    total = forward_operations(model, length)
    for layer, where in at:
        first = corrupted if over == "z" else where
        if first < corrupted:
            continue
        if (layer, first) not in known:
            known[layer, first] = cell_operations(model, over, layer, first, length)
        total += known[layer, first]
    return prompts * total


def _logits(model: ck.Model) -> float:
    return 2.0 * model.d_model * model.config.vocab_size


@dataclass(frozen=True)
class Rate:
    """How fast plain forwards of one model are.

    Attributes:
        model: the model.
        hf: the same, as transformers runs it.
        clock: what times it.
        ids: the sweep's prompts, `[example, position]`.
        rows: the batch size at which most operations a second were done.
    """

    model: ck.Model
    hf: Any
    clock: Clock
    ids: Tensor
    rows: int

    @classmethod
    def found(cls, model: ck.Model, hf: Any, clock: Clock, prompts: Prompts) -> "Rate":
        """Try batches four times as large each, for as long as that is faster."""
        found = cls(model, hf, clock, prompts.corrupt, len(prompts))
        found.best()
        rate = found.best()
        while found.rows * 4 <= _MOST_ROWS:
            larger = replace(found, rows=found.rows * 4)
            if (faster := larger.best()) <= rate:
                break
            found, rate = larger, faster
        return found

    def best(self) -> float:
        """Operations a second of the best batch size, measured now."""
        return self._of(self.rows)

    def own(self) -> float:
        """Operations a second of the sweep's own prompts, measured now."""
        return self._of(len(self.ids))

    def _of(self, rows: int) -> float:
        batch = self.ids.repeat(-(-rows // len(self.ids)), 1)[:rows]
        # As short as the batch is on a small model, one call says little.
        calls = max(1, int(2e9 / (rows * forward_operations(self.model, batch.shape[1]))))

        def run() -> None:
            for _ in range(calls):
                self.hf(input_ids=batch, logits_to_keep=1, use_cache=False)

        operations = calls * rows * forward_operations(self.model, batch.shape[1])
        return operations / self.clock.seconds(run)
