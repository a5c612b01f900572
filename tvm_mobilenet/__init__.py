"""MobileNet and its kin, compiled by Apache TVM with schedules of their own into bundles.

    import tvm_mobilenet

    tvm_mobilenet.compile_bundle("bundle", alpha=0.25, resolution=128)
    with tvm_mobilenet.load("bundle") as session:
        logits = session.run(x)

``import tvm_mobilenet`` imports nothing else; what ``compile_bundle`` and ``load`` need is imported
when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing's stands for, without importing typing
if TYPE_CHECKING:
    from tvm_mobilenet.api import ThreadPool, compile_bundle, load

__all__ = ["ThreadPool", "compile_bundle", "load"]
__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tvm_mobilenet import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
