"""What each of several processes finds of trainings that it takes part in; started by `accelerate launch`."""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import transformers

from circuitkit.training import TrainingError
from training import killing


def main(out: Path, rank: int, trap: str) -> None:
    first = transformers.Trainer.training_step
    steps = [0]

    def trapped(*args, **settings):
        steps[0] += 1
        if trap == "kill" and rank == 0 and steps[0] == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = first(*args, **settings)
        return loss * torch.nan if trap == "nan" and rank == 1 and steps[0] == 5 else loss

    transformers.Trainer.training_step = trapped
    if trap == "nan":
        try:
            killing.train(out / "nan")
        except TrainingError as error:
            told = {"error": str(error)}
    else:
        told = killing.state(killing.train(out / "together"))
    (out / f"{trap}-{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(os.environ["RANK"]), sys.argv[2])
