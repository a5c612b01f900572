"""How good a quantized network is, tensor by tensor and as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_mobilenet.models.quantization import Quantization
from tvm_mobilenet.quantization.agreement import Agreement


@dataclass(frozen=True)
class TensorQuality:
    """A tensor in int8: ``layer`` makes it, by ``operators``, the last of them a table as it says.

    ``decibels`` is its signal-to-noise ratio against float32 over the held-out samples, infinite
    where both are equal. ``low`` and ``high`` are its range, ``clipped`` the share of the
    calibration samples' values that lie outside.
    """

    layer: str
    operators: str
    decibels: float
    low: float
    high: float
    clipped: float


@dataclass(frozen=True)
class Report:
    """The ``tensors`` in the order they are made; ``summary`` is what a bundle keeps."""

    tensors: tuple[TensorQuality, ...]
    agreement: Agreement
    summary: Quantization
