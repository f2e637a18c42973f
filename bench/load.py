"""Load on a server: wrk with real texts as bodies, and what it counted.

It does not know what is served, nor whether the answers are right (``bench.answers`` does).
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
ANSWER_LIMIT_S = 120  # wrk's own 2 s would call every answer of a slow model at 64 an error
FAULTS = {
    "connect": "connections refused",
    "read": "broken answers",
    "write": "broken requests",
    "status": "answers with a status above 399",
    "timeout": "answers that did not come",
}


class LoadFailed(Exception):
    """The load generator could not be run; the message is the reason."""


@dataclass(frozen=True)
class Load:
    """What came of one measurement."""

    requests: int  # answered, the failed ones included
    seconds: float
    p50_ms: float
    p99_ms: float
    faults: Mapping[str, int]  # only those that happened

    @property
    def requests_per_s(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds

    @property
    def errors(self) -> int:
        """How many requests failed, whatever the way."""
        return sum(self.faults.values())

    def reason(self) -> str:
        """Why this is no measurement, or nothing if it is one."""
        if self.errors:
            said = ", ".join(f"{n} {FAULTS[name]}" for name, n in self.faults.items())
            return f"{said} of {self.requests} requests"
        if not self.requests:
            return f"not one answer in {self.seconds:.0f} s"
        return ""


@contextlib.contextmanager
def bodies_file(bodies: Sequence[bytes]) -> Iterator[Path]:
    """The bodies of all rows in a file that the load generator reads; removed afterwards."""
    with tempfile.NamedTemporaryFile(prefix="bench-bodies-") as file:
        for body in bodies:
            file.write(b"%d\n%b\n" % (len(body), body))
        file.flush()
        yield Path(file.name)


def measure(
    port: int,
    path: str,
    headers: Sequence[tuple[str, str]],
    bodies: Path,
    connections: int,
    seconds: float,
    slow: bool = False,
) -> Load:
    """Asks as fast as the server answers, over this many connections.

    One thread of wrk: the generator shares the machine with the server, and one thread gives more
    than any server here takes.

    Args:
        port: Of the server, on this machine.
        path: POST here.
        headers: Of every request.
        bodies: As `bodies_file` wrote them, sent in turn.
        connections: Each with one request at a time.
        seconds: How long, rounded to whole ones.
        slow: Whether answers are few and come in batches; the time then ends with the last one.

    Raises:
        LoadFailed: If wrk is missing or ends without a result.
    """
    if not (wrk := shutil.which("wrk")):
        raise LoadFailed("wrk is not installed: apt install wrk (or build github.com/wg/wrk)")
    command = [wrk, "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{ANSWER_LIMIT_S}s"]
    command += ["--script", str(SCRIPT), f"http://127.0.0.1:{port}"]
    env = os.environ | {
        "BENCH_BODIES": str(bodies),
        "BENCH_PATH": path,
        "BENCH_SLOW": str(int(slow)),
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers),
    }
    limit = seconds + 2 * ANSWER_LIMIT_S
    try:
        run = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"wrk did not end within {limit:g} s") from None
    return parse(run.stdout, run.stderr)


def parse(output: str, complaints: str = "") -> Load:
    """Reads what wrk and the script printed.

    Raises:
        LoadFailed: If there is no result in it.
    """
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        said = (complaints.strip() or output.strip() or "nothing").splitlines()[-1]
        raise LoadFailed(f"wrk gave no result, it said: {said}")
    counted = json.loads(lines[-1])
    if not counted["duration_us"]:
        raise LoadFailed("wrk measured for no time at all")
    return Load(
        requests=counted["requests"],
        seconds=counted["duration_us"] / 1e6,
        p50_ms=counted["p50_us"] / 1e3,
        p99_ms=counted["p99_us"] / 1e3,
        faults={name: counted[name] for name in FAULTS if counted[name]},
    )
