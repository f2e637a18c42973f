"""The Ray cluster that is used: an existing one, or one that is started here and ended again.

A cluster that is started here listens on loopback only. This module does not know what runs on it.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salver.errors import ClusterError, MissingExtra
from salver.settings import default_environment

log = logging.getLogger("salver.cluster")

APPLICATION = "salver"  # the name of the service there
INGRESS = "salver-ingress"  # of its HTTP face; no deployment of a user can be named so

# Read by Ray when it is imported. The first makes it use the loopback address for everything, as it
# does by itself on other systems than Linux; the second keeps it from reporting home.
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Cluster:
    """Which cluster to use.

    Attributes:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT` of a running one; null starts one.
        working_dir: Folder with the service's modules, which is sent to the nodes of a running
            cluster; null if they have them.
    """

    address: str | None = None
    working_dir: Path | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is started for this, and ended with it."""
        return self.address is None


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """The module `ray`, connected; a cluster that was started for it is ended.

    Raises:
        MissingExtra: If Ray is not installed.
        ClusterError: If there is no cluster at the address, or none can be started.
    """
    ray = require_ray(on_loopback=cluster.is_ours)
    if cluster.address == "auto" and _listens_on_loopback():
        _use_loopback()  # one that Salver has started; Ray would look for it on another address
    env = {} if cluster.working_dir is None else {"working_dir": str(cluster.working_dir)}
    if cluster.is_ours:
        env["worker_process_setup_hook"] = f"{__name__}.bind_loopback"
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=cluster.address or "local",
            runtime_env=env,
            namespace="salver",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError and others
        where = "No Ray could be started"
        if not cluster.is_ours:
            where = f"The cluster at {cluster.address!r} cannot be reached"
        raise ClusterError(f"{where}: {error}") from error
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own would end the process undrained
        yield ray
    finally:
        ray.shutdown()


def require_ray(*, on_loopback: bool = False) -> Any:
    """The module `ray`.

    Args:
        on_loopback: Whether a Ray that is started here is to listen on loopback only.

    Raises:
        MissingExtra: If it is not installed.
    """
    if on_loopback:
        default_environment(_LOOPBACK)
    try:
        import ray
        import ray.serve
    except ImportError as error:
        raise MissingExtra("ray", "A Ray cluster", "ray") from error
    if on_loopback:
        _use_loopback()
    return ray


def _use_loopback() -> None:
    """As the variable does, for a Ray that was imported before it was set."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def bind_loopback() -> None:
    """Run by Ray in each process of a cluster that listens on loopback only.

    A Serve replica opens a port for other deployments on all interfaces, whatever the address of
    its node is; here nobody else is to reach it.
    """
    from ray._common import tls_utils

    add_port = tls_utils.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, address.replace("[::]:", "127.0.0.1:"))

    tls_utils.add_port_to_grpc_server = add_loopback_port


def _listens_on_loopback() -> bool:
    from ray._private.services import find_gcs_addresses

    addresses = find_gcs_addresses()
    return bool(addresses) and all(one.startswith("127.") for one in addresses)
