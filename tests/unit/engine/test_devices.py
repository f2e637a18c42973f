"""Which GPUs a replica sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from salver.engine import devices as module
from salver.engine.devices import devices, share_devices
from salver.errors import UnsupportedOption


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that shows four devices."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-ab,7")


def test_without_gpus_asked_for_nothing_is_set() -> None:
    """The child's environment is left as it is."""
    assert share_devices(3, 0)(2) is None


@pytest.mark.usefixtures("four")
def test_each_replica_gets_devices_of_its_own() -> None:
    """Whole devices are never shared."""
    assert ["4", "5", "GPU-ab", "7"] == [share_devices(4, 1)(i) for i in range(4)]
    assert ["4,5", "GPU-ab,7"] == [share_devices(2, 2)(i) for i in range(2)]


@pytest.mark.usefixtures("four")
def test_a_fraction_puts_several_replicas_on_one_device() -> None:
    """Half a device each makes pairs, and a device is never given more than it has."""
    assert ["4", "4", "5", "5", "GPU-ab"] == [share_devices(5, 0.5)(i) for i in range(5)]
    assert ["4", "4", "5"] == [share_devices(3, 0.4)(i) for i in range(3)]


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize(("replicas", "gpus", "need"), [(5, 1, 5), (3, 2, 6), (9, 0.5, 5)])
def test_too_few_devices_are_refused(replicas: int, gpus: float, need: int) -> None:
    """The error says how many are needed and how many there are."""
    with pytest.raises(UnsupportedOption, match=rf"needs {need} GPU.*shows 4"):
        share_devices(replicas, gpus)


@pytest.mark.usefixtures("four")
def test_a_device_and_a_half_is_refused() -> None:
    """Above one, only whole numbers of devices can be given to a replica."""
    with pytest.raises(UnsupportedOption, match=r"num_gpus=1.5.*whole number"):
        share_devices(1, 1.5)


def test_a_machine_without_gpus_refuses_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No driver, no devices."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module, "NVIDIA", tmp_path / "none")
    assert [] == devices()
    with pytest.raises(UnsupportedOption, match=r"shows 0.*num_gpus to 0"):
        share_devices(1, 1)


def test_devices_are_counted_by_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without CUDA_VISIBLE_DEVICES, the folders of the driver are the devices."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module, "NVIDIA", tmp_path)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert ["0", "1"] == devices()


@pytest.mark.parametrize(
    ("given", "seen"), [("", []), ("-1", []), ("0,-1,1", ["0"]), ("1, 2", ["1", "2"])]
)
def test_hidden_devices_are_hidden(
    monkeypatch: pytest.MonkeyPatch, given: str, seen: list[str]
) -> None:
    """As in CUDA, an empty list or a negative id hides all that would follow."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert seen == devices()
