"""Which GPUs a replica sees. It does not know what a model does with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from salver.errors import UnsupportedOption
from salver.settings import visible_devices

NVIDIA = Path("/proc/driver/nvidia/gpus")


def devices() -> list[str]:
    """Ids of the GPUs that this process may use, in order."""
    named = visible_devices()
    if named is not None:
        ids = (name.strip() for name in named)
        return list(itertools.takewhile(lambda name: not name.startswith("-"), ids))
    return [str(i) for i, _ in enumerate(sorted(NVIDIA.iterdir()))] if NVIDIA.is_dir() else []


def share_devices(num_replicas: int, num_gpus: float) -> Callable[[int], str | None]:
    """Gives each replica its own devices; a fraction puts several replicas on one device.

    Returns:
        From the number of a replica to its `CUDA_VISIBLE_DEVICES`; null leaves it as it is.

    Raises:
        UnsupportedOption: If this machine has too few devices, or `num_gpus` is no share.
    """
    if not num_gpus:
        return lambda _index: None
    if num_gpus > 1 and num_gpus != int(num_gpus):
        raise UnsupportedOption(
            f"num_gpus={num_gpus:g} cannot be given to one replica; it takes a whole number, or a "
            "fraction below 1 to share one GPU."
        )
    have = devices()
    whole = max(1, int(num_gpus))
    per_device = 1 if num_gpus >= 1 else int(1 / num_gpus)
    need = num_replicas * whole if num_gpus >= 1 else -(-num_replicas // per_device)
    if need > len(have):
        raise UnsupportedOption(
            f"num_gpus={num_gpus:g} for {num_replicas} replica(s) needs {need} GPU(s); this machine "
            f"shows {len(have)}. Lower num_replicas or num_gpus, or set num_gpus to 0."
        )

    def of(index: int) -> str:
        first = index * whole if num_gpus >= 1 else index // per_device
        return ",".join(have[first : first + whole])

    return of
