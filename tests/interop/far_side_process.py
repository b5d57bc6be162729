"""A process in which there is no circuitkit, that runs traces sent to it on a checkpoint, as NDIF does.

Requests come in, and what they saved goes out, each behind its length in eight bytes.
"""

import io
import sys
from typing import Any, BinaryIO

HIDDEN = ("circuitkit", "architectures", "test_nnsight_engine", "conftest")


class Hidden:
    """Finds that some modules do not exist."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"no module named {name!r} here", name=name)


def receive(stream: BinaryIO) -> bytes | None:
    length = stream.read(8)
    return stream.read(int.from_bytes(length, "big")) if len(length) == 8 else None


def send(stream: BinaryIO, content: bytes) -> None:
    stream.write(len(content).to_bytes(8, "big") + content)
    stream.flush()


def serve(folder: str) -> None:
    sys.meta_path.insert(0, Hidden())
    out, sys.stdout = sys.stdout.buffer, sys.stderr
    import torch
    from nnsight import TransformersModel
    from nnsight.schema.request import RequestModel
    from nnsight.tracing.tracer import dec, inc
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = TransformersModel(folder, task="text-generation", tokenizer=tokenizer, dispatch=True)
    while (envelope := receive(sys.stdin.buffer)) is not None:
        blob = receive(sys.stdin.buffer)
        assert blob is not None
        request = RequestModel.model_validate_json(envelope)
        buffer = io.BytesIO()
        try:
            model._remoteable_set_env(request.env)
            tracer = RequestModel.deserialize(blob, model._remoteable_persistent_objects(), request.compress)
            before = set(tracer.info.frame.f_locals)
            inc()
            try:
                tracer.execute(tracer.info.code)
            finally:
                dec()
            told = {name: value for name, value in tracer.info.frame.f_locals.items() if name not in before}
            torch.save(told, buffer)
        except Exception as error:
            buffer = io.BytesIO()
            torch.save(f"{type(error).__name__}: {error}", buffer)
        send(out, buffer.getvalue())


if __name__ == "__main__":
    serve(sys.argv[1])
