"""The model behind NVIDIA's Triton, which nvidia-pytriton brings and starts.

Triton's own process speaks HTTP, forms batches and hands them to the function below, through
shared memory and ZeroMQ.
"""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.predictors import CLASSES, from_environment

NAMES = np.array([[name.encode()] for name in CLASSES], dtype=object)


def instance() -> Any:
    """One instance of the model: the function that answers a batch."""
    predictor = from_environment()

    @batch
    def predict(title: np.ndarray, description: np.ndarray) -> dict[str, np.ndarray]:
        titles = [text.decode() for text in title[:, 0]]
        descriptions = [text.decode() for text in description[:, 0]]
        rows = predictor(titles, descriptions)
        return {"prediction": NAMES[rows.argmax(axis=1)], "probabilities": rows.astype(np.float32)}

    return predict


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def main() -> None:
    """Serves until it is ended."""
    grpc, metrics = free_ports(2)
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(os.environ["BENCH_PORT"]),
        grpc_address="127.0.0.1",
        grpc_port=grpc,
        metrics_address="127.0.0.1",
        metrics_port=metrics,
    )
    with Triton(config=config, workspace=Path.cwd() / "triton") as triton:
        triton.bind(
            model_name="classifier",
            # "Multi-instance": each function of the list runs in a thread of its own
            # (https://triton-inference-server.github.io/pytriton/latest/binding_models/).
            infer_func=[instance() for _ in range(int(os.environ["BENCH_WORKERS"]))],
            inputs=[
                Tensor(name="title", dtype=bytes, shape=(1,)),
                Tensor(name="description", dtype=bytes, shape=(1,)),
            ],
            outputs=[
                Tensor(name="prediction", dtype=bytes, shape=(1,)),
                Tensor(name="probabilities", dtype=np.float32, shape=(len(CLASSES),)),
            ],
            config=ModelConfig(
                max_batch_size=int(os.environ["BENCH_BATCH"]),
                # No wait (the default): Triton takes what is there
                # (https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/batcher.html).
                batcher=DynamicBatcher(max_queue_delay_microseconds=0),
            ),
            strict=False,  # or it compares every answer with the types above
        )
        triton.serve()


if __name__ == "__main__":
    main()
