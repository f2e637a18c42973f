"""Salver as a user starts it: `salver serve`, nothing switched off.

Limits, deadlines, metrics, request ids and the Host check are on; the options of each model's
service are in ``bench/services.py``.
"""

import json

from bench.systems import Answer, Launch, Setup, System

SERVICES = {
    "constant": "constant",
    "minilm": "minilm",
    "bert-base": "bert_base",
    "sklearn": "sklearn",
}


def launch(setup: Setup) -> Launch:
    """`salver serve` on the service of the model."""
    command = str(setup.python.with_name("salver"))
    target = f"bench.services:{SERVICES[setup.model]}"
    return Launch(
        (command, "serve", target, "--port", str(setup.port)),
        {},
        path="/predict/",
        ready="/-/readyz",
    )


def first_result(body: bytes) -> Answer:
    """Salver answers a list, one entry per row."""
    answer: Answer = json.loads(body)["results"][0]
    return answer


def shape_said(body: bytes) -> tuple[int, int]:
    """Replicas and threads of each, as the service chose them."""
    (deployment,) = json.loads(body)["deployments"].values()
    plan = deployment["plan"]
    return plan["num_replicas"], plan["threads"]


SYSTEM = System(
    name="salver",
    title="Salver",
    distribution="salver",
    requirements=(),
    launch=launch,
    decode=first_result,
    shape_said=shape_said,
    note="`salver serve` with its limits, deadlines, metrics, request ids and Host check on",
)
