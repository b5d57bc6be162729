"""One training by several processes, as `accelerate launch` starts them: the same steps as by one, and one that writes.

Each step's examples, their order and the mean over their tokens are those of a single process, whatever the number of
processes: where the examples of a step do not fill all of them, they are filled up with rows that carry no loss.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import EvalPrediction, Trainer

from circuitkit.training import losses
from circuitkit.training.errors import TrainingError
from circuitkit.training.losses import NO_LOSS

_STARTED = {"WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}


class Share(NamedTuple):
    """What a process takes of each step: rows at a time, and how many times."""

    rows: int
    times: int


class Rows(Sized, Protocol):
    """Examples by number, each a mapping with `labels`."""

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The example of a number."""
        ...


def processes() -> int:
    """How many processes train together: those that `accelerate launch` or `torchrun` started, or 1.

    >>> processes()
    1
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that writes files and shows progress.

    >>> is_first()
    True
    """
    return int(os.environ.get("RANK", "0")) == 0


def on_cpu() -> bool:
    """Whether these processes train on CPUs, joined by gloo: there is no accelerator, or accelerate was told so.

    Accelerate's own answer without an accelerator is that each process is alone.
    """
    told = os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("1", "true", "yes")
    return told or not torch.accelerator.is_available()


def join() -> PartialState:
    """Meet the other processes, once; accelerate's account of them.

    Raises:
        TrainingError: `accelerate launch` was asked for several processes and started one.

    >>> join().num_processes
    1
    """
    # Its launcher for CPUs leaves starting them to mpirun, and starts one without a word where there is none.
    here = os.environ.get("MASTER_ADDR") == "127.0.0.1" and "ACCELERATE_USE_CPU" in os.environ
    if here and not _STARTED & os.environ.keys():
        raise TrainingError(
            "accelerate launch --cpu starts one process, whatever --num_processes says, and leaves the others to "
            "mpirun: give --multi_gpu in place of --cpu, which means several processes, on CPUs too"
        )
    return PartialState(cpu=processes() > 1 and on_cpu())


def share(batch_size: int, device_batch_size: int | None = None, of: int | None = None) -> Share:
    """How a step's rows are divided among processes, and each process's among passes that fit its memory.

    Args:
        batch_size: rows of a step, over all processes.
        device_batch_size: the most rows of a pass; None is all of the process's.
        of: how many processes; None is `processes()`.

    Raises:
        TrainingError: they do not come out even.

    >>> share(16, 2, of=4)
    Share(rows=2, times=2)
    """
    count = processes() if of is None else of
    if batch_size < 1 or (device_batch_size is not None and device_batch_size < 1):
        raise TrainingError(
            f"a batch has at least 1 row: batch_size {batch_size}, device_batch_size {device_batch_size}"
        )
    if batch_size % count:
        raise TrainingError(
            f"batch_size {batch_size} counts a step's rows over all processes, and {count} processes cannot share it "
            f"evenly: give a multiple of {count}, or start another number of processes"
        )
    mine = batch_size // count
    rows = mine if device_batch_size is None else min(device_batch_size, mine)
    if mine % rows:
        raise TrainingError(
            f"device_batch_size {device_batch_size} does not divide the {mine} rows of a step that each of {count} "
            f"processes takes: give a divisor of {mine}"
        )
    return Share(rows, mine // rows)


def any_of_them(flag: bool) -> bool:
    """Whether it is so in any process; all of them must ask at the same step.

    >>> any_of_them(False)
    False
    """
    if processes() == 1:
        return flag
    found = torch.tensor(int(flag), device=join().device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return bool(found.item())


def agree(error: Exception | None = None) -> None:
    """Raise in every process what went wrong in any of them; all of them must ask at the same step.

    Raises:
        Exception: the process's own error.
        TrainingError: another's.

    >>> agree()
    """
    join()
    told = gather_object([None if error is None else str(error)]) if processes() > 1 else []
    if error is not None:
        raise error
    if first := next((each for each in told if each is not None), None):
        raise TrainingError(first)


def fsdp_config() -> Path:
    """The file with which `accelerate launch --config_file` shards a model over GPUs: FSDP2, a block a unit.

    >>> fsdp_config().name
    'fsdp2.yaml'
    """
    return Path(__file__).parent / "fsdp" / "fsdp2.yaml"


class Order(Sampler[int]):
    """The order of the examples in each epoch, which depends on seed and epoch alone.

    Numbers from the count of examples on stand for rows without loss, which fill the last step of all processes.

    Args:
        count: of examples.
        seed: of the order.
        fill: what the number of rows is to be a multiple of.

    >>> order = Order(5, seed=0, fill=4)
    >>> sorted(order), len(order)
    ([0, 1, 2, 3, 4, 5, 6, 7], 8)
    """

    def __init__(self, count: int, seed: int, fill: int = 1) -> None:
        self.count, self.seed, self.fill, self.epoch = count, seed, fill, 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.fill) * self.fill

    def __iter__(self) -> Iterator[int]:
        # An epoch's stream is no other seed's: seed 0's second epoch is not seed 1's first.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        yield from torch.randperm(self.count, generator=generator).tolist()
        yield from range(self.count, len(self))


class Filled:
    """Examples, and behind them, as often as one likes, a row that carries no loss.

    It is the first example without labels, so that it goes through any collator.

    >>> filled = Filled([{"input_ids": [1, 2], "labels": [1, 2]}])
    >>> len(filled), filled[7]
    (1, {'input_ids': [1, 2], 'labels': [-100, -100]})
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if index < len(self.rows):
            return self.rows[index]
        row = dict(self.rows[0])
        labels = row["labels"]
        none = torch.full_like(labels, NO_LOSS) if isinstance(labels, Tensor) else [NO_LOSS] * len(labels)
        return {**row, "labels": none}


class Even(Trainer):
    """A trainer of labelled rows whose steps and validation losses are the same for any number of processes.

    Stands before `transformers.Trainer` among a trainer's bases. Transformers' own fills the last step up with the
    first examples again, and its validation loss is a mean over batches, so both depend on the number of processes and
    the size of batches. Here the validation loss is the mean over all tokens that carry one.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.compute_metrics = _mean

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        fill = self.args.per_device_train_batch_size * self.args.world_size if self.args.world_size > 1 else 1
        self._order = Order(len(rows), seed, fill)
        return self._order

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Any = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> Any:
        rows: Any = Filled(dataset) if is_training and self.args.world_size > 1 else dataset
        return super()._get_dataloader(rows, description, batch_size, sampler_fn, is_training, dataloader_key)

    def _run_epoch(self, model: Any, epoch: int, *args: Any, **settings: Any) -> None:
        # Where batches are skipped to go on within an epoch, its number does not come through to the sampler.
        self._order.set_epoch(epoch)
        super()._run_epoch(model, epoch, *args, **settings)  # type: ignore[no-untyped-call]  # it is

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, Float[Tensor, " row"], Int[Tensor, " row"]]:
        """Each row's loss, summed over its tokens, and their number."""
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(**inputs).logits
        return None, *losses.by_row(logits, labels)


def _mean(found: EvalPrediction) -> dict[str, float]:
    sums, counts = found.predictions, found.label_ids
    total = int(counts.sum())  # type: ignore[union-attr]  # arrays, as prediction_step returns them
    if not total:
        raise TrainingError("no token of the validation set carries a loss: see loss_on, and the examples' lengths")
    return {"loss": float(sums.astype("float64").sum()) / total}  # type: ignore[union-attr]
