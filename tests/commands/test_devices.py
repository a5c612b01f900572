"""The ``devices`` stage: its tables, and every way in which a tracker can fail to answer."""

from __future__ import annotations

import argparse
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tvm_mobilenet import devices
from tvm_mobilenet.emulation import devices as emulated_devices
from tvm_mobilenet.emulation.devices import HOST
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.remote import local_farm, tracker
from tvm_mobilenet.remote.tracker import DeviceQueue, TrackerAddress

SUMMARY = {
    "queue_info": {
        "rpi4": {"free": 1, "pending": 2},
        "wanted": {"free": 0, "pending": 1},
        "gone": {"free": 0, "pending": 0},
    },
    "server_info": [
        {"addr": ["10.0.0.8", 9090], "key": "server:rpi4"},
        {"addr": ["10.0.0.7", 9090], "key": "server:rpi4"},
        {"addr": [None, 9091], "key": "server:new"},
    ],
}


@contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """Something that is no tracker: says ``answer`` to whoever connects, or nothing."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            # the probe, then TVM's client
            for _ in range(2):
                connection, _address = server.accept()
                kept.append(connection)
                if answer is not None:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()
        for connection in kept:
            connection.close()


def test_prints_targets_and_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert devices.main([]) == 0
    out = capsys.readouterr().out
    for name in target.known():
        assert name in out
    assert "This host: " in out and "Tracker" not in out


def test_prints_targets_on_a_host_that_fits_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = target.HostCpu("aarch64", frozenset(), None, None, 1)
    monkeypatch.setattr(target, "read_host", lambda: old)
    assert devices.main([]) == 0
    assert "it is aarch64" in capsys.readouterr().out


def test_queues() -> None:
    assert tracker.queues(SUMMARY) == [
        DeviceQueue("new", ("None:9091",), free=0, pending=0),
        DeviceQueue("rpi4", ("10.0.0.7:9090", "10.0.0.8:9090"), free=1, pending=2),
        DeviceQueue("wanted", (), free=0, pending=1),
    ]


def test_asks_a_real_tracker(capsys: pytest.CaptureFixture[str]) -> None:
    with local_farm.running() as farm:
        assert tracker.query_tracker(farm.address) == []
        assert devices.main(["--rpc-tracker", str(farm.address)]) == 0
        assert f"Tracker {farm.address}: no device registered" in capsys.readouterr().out


def test_two_servers_that_start_at_once_take_two_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        # where the other one is between choosing its port and listening at it
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((HOST, 0))
        port = other.getsockname()[1]
        monkeypatch.setattr(emulated_devices, "FIRST_SERVER_PORT", port)
        monkeypatch.setattr(emulated_devices, "LAST_SERVER_PORT", port + 20)
        with local_farm.running(1, "any") as farm:
            (queue,) = tracker.query_tracker(farm.address)
    (server,) = queue.servers
    assert port < int(server.rpartition(":")[2]) < port + 20


def test_prints_what_the_tracker_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "query_tracker", lambda _address: tracker.queues(SUMMARY))
    assert devices.main(["--rpc-tracker", "desk"]) == 0
    out = capsys.readouterr().out
    assert "Tracker desk:9190" in out and "10.0.0.7:9090 10.0.0.8:9090" in out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x86-znver4", "--emulate x86-znver4: expected arm, or a target of 64-bit ARM"),
        ("arm-rpi2-armv7", "--emulate arm-rpi2-armv7: expected arm, or a target of 64-bit ARM"),
        ("arm-rpi9", "unknown target 'arm-rpi9'"),
    ],
)
def test_what_cannot_be_emulated(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert devices.main(["--emulate", name, "1"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {says}") and captured.err.count("\n") == 1


def test_tracker_down(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert devices.main(["--rpc-tracker", f"127.0.0.1:{port}"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: no RPC tracker at 127.0.0.1:{port} (")
    assert captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", None], ids=["ssh", "silence"])
def test_not_a_tracker(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "TRACKER_TIMEOUT_S", 0.3)
    with listener(answer) as port, pytest.raises(RunFailed, match="does not answer") as caught:
        tracker.query_tracker(TrackerAddress("127.0.0.1", port))
    assert "\n" not in str(caught.value)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("desk", ("desk", 9190)),
        ("desk:9200", ("desk", 9200)),
        ("[::1]", ("::1", 9190)),
        ("[::1]:9200", ("::1", 9200)),
        ("::1", ("::1", 9190)),
    ],
)
def test_tracker_address(text: str, address: tuple[str, int]) -> None:
    assert tracker.tracker_address(text) == address


@pytest.mark.parametrize("text", ["", ":9190", "desk:", "desk:x", "desk:0", "desk:70000", "[::1]9"])
def test_bad_tracker_address(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="HOST:PORT"):
        tracker.tracker_address(text)
