"""Replicas follow a real load, as `salver simulate` had said."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from collections import Counter

import pytest

from on_ray.ray_service import RayService, salver, served

OPTIONS = (
    "num_replicas=null",
    "autoscaling_config={min_replicas: 1, max_replicas: 4, target_ongoing_requests: 2, "
    "upscale_delay_s: 1, downscale_delay_s: 3, look_back_period_s: 2, metrics_interval_s: 0.5}",
    "max_batch_size=2",
    "user_config={delay_s: 0.1}",
)
SETS = [word for option in OPTIONS for word in ("--set", option)]
IDLE, BUSY, SECONDS = 2, 40, 70  # requests per second; one replica answers 20
RISE, FALL = 5, 30


def rate(second: int) -> int:
    return IDLE if second < RISE else BUSY if second < FALL else 0


def ask_at_rate(service: RayService, begun: float, codes: Counter[int]) -> None:
    """Requests at the rate of the trace, however long their answers take."""
    with concurrent.futures.ThreadPoolExecutor(250) as pool:
        for second in range(SECONDS):
            for i in range(rate(second)):
                time.sleep(max(0.0, begun + second + i / rate(second) - time.monotonic()))
                pool.submit(lambda: codes.update([service.ask("/predict/", {"text": "x"})[0]]))


@pytest.mark.cluster
def test_replicas_go_up_and_down_as_simulated(tmp_path):
    """The number that Ray wants is within one of the simulated one, three seconds allowed."""
    trace = tmp_path / "trace.csv"
    trace.write_text(f"second,requests_per_s\n0,{IDLE}\n{RISE},{BUSY}\n{FALL},0\n{SECONDS - 1},0\n")
    ended = salver("simulate", "served:slow", "--trace", str(trace), "--start-s", "8", *SETS)
    assert 0 == ended.returncode, ended.stderr
    simulated = [int(line.split(",")[3]) for line in ended.stdout.splitlines()[1:]]

    codes: Counter[int] = Counter()
    wanted: list[tuple[float, int]] = []
    with served("served:slow", *SETS) as running:
        begun = time.monotonic()
        load = threading.Thread(target=ask_at_rate, args=(running, begun, codes))
        load.start()
        while (at := time.monotonic() - begun) < SECONDS - 3:
            states = json.loads(salver("status", "--json").stdout)["deployments"]["Tagger"]
            counts = states["replica_states"]
            wanted.append((at, counts.get("RUNNING", 0) + counts.get("STARTING", 0)))
        load.join()

    assert [200] == list(codes)
    seen = [n for _, n in wanted]
    assert (1, 1) == (seen[0], seen[-1]), wanted
    assert abs(max(seen) - max(simulated)) <= 1, (wanted, simulated)
    assert max(seen) > 1
    for at, n in wanted:
        near = simulated[max(0, int(at) - 3) : int(at) + 6]  # the status takes seconds too
        assert min(near) - 1 <= n <= max(near) + 1, (at, wanted, simulated)
