"""What two Ray clusters on one machine must not share; for the scripts that start one."""

import os
import socket
from pathlib import Path


def keep_to_itself(folder: Path) -> None:
    """Gives HAProxy files and ports of its own.

    By default its files lie in /tmp/haproxy-serve and its ports are fixed, so that two clusters
    on one machine get in each other's way. Its actor reads these variables when the cluster
    starts it. The names are short because Serve adds 57 characters to the path of a socket, which
    may have 107.
    """
    names = {"SERVER_STATE_BASE": "h", "CONFIG_FILE_LOC": "h/c", "SERVER_STATE_FILE": "h/s"}
    names |= {"SOCKET_PATH": "h/a", "METRICS_SOCKET_PATH": "h/m"}
    for name, path in names.items():
        os.environ[f"RAY_SERVE_HAPROXY_{name}"] = str(folder / path)
    with socket.socket() as stats, socket.socket() as metrics:
        for name, free in {"STATS_PORT": stats, "METRICS_PORT": metrics}.items():
            free.bind(("127.0.0.1", 0))
            os.environ[f"RAY_SERVE_HAPROXY_{name}"] = str(free.getsockname()[1])
