"""NVIDIA's Triton, started by nvidia-pytriton."""

import json
import os
import sysconfig

from bench.predictors import CLASSES
from bench.systems import Answer, Launch, Row, Setup, System


def launch(setup: Setup) -> Launch:
    """The server script; its settings are commented there."""
    env = {
        # Larger batches of unsorted texts pad too much; without a model they cost nothing.
        "BENCH_BATCH": "64" if setup.model == "constant" else "8",
        # Its Python backend is linked against libpython, which lies beside the interpreter.
        "LD_LIBRARY_PATH": os.pathsep.join(
            filter(None, (sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")))
        ),
    }
    path = "/v2/models/classifier/infer"
    return Launch(setup.script("triton"), env, path=path, ready="/v2/models/classifier/ready")


def encode(row: Row) -> bytes:
    """The request of the Open Inference Protocol: one tensor of shape (1, 1) for each column."""
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [value]}
        for name, value in row.items()
    ]
    return json.dumps({"inputs": inputs}).encode()


def decode(body: bytes) -> Answer:
    """The two tensors of its answer."""
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    probabilities = dict(zip(CLASSES, outputs["probabilities"], strict=True))
    return {"prediction": outputs["prediction"][0], "probabilities": probabilities}


SYSTEM = System(
    name="triton",
    title="Triton",
    distribution="nvidia-pytriton",
    # nvidia-pytriton wants a numpy below 2; the rest is as for the other systems.
    requirements=(
        "nvidia-pytriton==0.7.0",
        "numpy==1.26.4",
        "onnxruntime==1.32.0",
        "tokenizers==0.23.3",
        "scikit-learn==1.9.1",
    ),
    launch=launch,
    encode=encode,
    decode=decode,
    cost_s=15.0,
    note="Triton through nvidia-pytriton, Open Inference Protocol over HTTP, dynamic batches",
)
