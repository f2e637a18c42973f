"""BentoML."""

from bench.systems import RUNTIME, Launch, Setup, System


def launch(setup: Setup) -> Launch:
    """`bentoml serve`; the service's settings are commented beside it."""
    service = "Direct" if setup.model == "constant" else "Threaded"
    argv = [str(setup.python.with_name("bentoml")), "serve"]
    argv += [f"bench.systems.servers.bentoml:{service}"]
    argv += ["--host", "127.0.0.1", "--port", str(setup.port)]
    # No statistics are sent to anyone while measuring.
    return Launch(tuple(argv), {"BENTOML_DO_NOT_TRACK": "True"}, ready="/readyz")


SYSTEM = System(
    name="bentoml",
    title="BentoML",
    distribution="bentoml",
    requirements=("bentoml==1.4.39", "uvloop==0.23.0", "httptools==0.9.0", *RUNTIME),
    launch=launch,
    cost_s=10.0,
    note="BentoML without adaptive batching, which cost it more than it gained here",
)
