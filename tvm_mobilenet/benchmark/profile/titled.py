"""The profiles that ``bench --profile`` asks for, one for each thread count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark.profile.layers import Profile, profile
from tvm_mobilenet.benchmark.targets import find_rpc_key, read_targets

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.request import BenchRequest


def profile_bundle(request: BenchRequest) -> Iterator[tuple[str, Profile]]:
    """A title and the layers of the request's bundle, on this machine or on its device.

    Raises BadInput for a bundle or a place that cannot be profiled, RunFailed where the device is
    lost.
    """
    return _profile_there(request) if request.tracker is not None else _profile_here(request)


def _profile_here(request: BenchRequest) -> Iterator[tuple[str, Profile]]:
    from tvm_mobilenet.benchmark.profile.local import LocalNetwork
    from tvm_mobilenet.runtime.session import load

    (bundle,) = request.bundles
    for threads in request.threads:
        with load(bundle, threads) as session:
            for place, x in zip(session.inputs, session.bundle.sample_inputs(), strict=True):
                place[...] = x
            title = f"{bundle}, threads: {threads}"
            yield title, profile(LocalNetwork(session), request.plan.min_runs)


def _profile_there(request: BenchRequest) -> Iterator[tuple[str, Profile]]:
    from tvm_mobilenet.benchmark.profile.remote import RemoteNetwork
    from tvm_mobilenet.remote.session import load

    assert request.tracker is not None, "checked before"
    (bundle,) = request.bundles
    key = request.key or find_rpc_key(*read_targets(request.bundles))
    for threads in request.threads:
        with load(bundle, request.tracker, key, threads) as session:
            session.set_input(*session.bundle.sample_inputs())
            title = f"{bundle} on {session.about.cpu}, threads: {threads}"
            yield title, profile(RemoteNetwork(session), request.plan.min_runs)
