"""The optional dependencies: which extra of ``pip install`` brings a module that is missing.

``pip install tvm-mobilenet`` alone runs bundles. What a command needs beyond that is an extra, as
``[project.optional-dependencies]`` in pyproject.toml lists them.
"""

from __future__ import annotations

import importlib.util

from tvm_mobilenet.errors import BadInput

# By extra, the modules that it brings and that we import ourselves. TVM's RPC imports those of
# ``tune`` but xgboost. A module of several extras stands with the smallest first.
MODULES: dict[str, tuple[str, ...]] = {
    "report": ("rich", "jinja2", "matplotlib"),
    "images": ("PIL",),
    "compile": ("tvm", "tvm_ffi", "onnx", "onnxscript", "rich", "torch"),
    "weights": ("h5py", "safetensors"),
    "sign": ("cryptography",),
    "tune": ("cloudpickle", "psutil", "tornado", "xgboost"),
    "quantize": ("onnxruntime",),
    "bench": ("onnxruntime", "openvino"),
}


def require(*extras: str) -> None:
    """Raise BadInput, naming what to install, where a module of one of ``extras`` is missing."""
    for extra in extras:
        for module in MODULES[extra]:
            require_module(module, extra)


def require_module(module: str, extra: str) -> None:
    """Raise BadInput where ``module`` is missing, with the extra that fits what was asked for."""
    if not _is_installed(module):
        raise BadInput(_advice(module, extra))


def advice_for(module: str | None) -> str | None:
    """What to install where ``import module`` fails; None for a module of no extra."""
    top = (module or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if top in modules:
            return _advice(top, extra)
    return None


def _advice(module: str, extra: str) -> str:
    return f"{module} is not installed: pip install 'tvm-mobilenet[{extra}]'"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # it is imported already, and has no spec
        return True
