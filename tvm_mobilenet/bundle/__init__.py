"""A bundle on disk: the compiled library, its parameters and everything needed to check them.

A directory, or the same as one ``.tar``:

    manifest.json          what it is (``bundle.manifest``), with the hash of every file
    model.so               the compiled library; exports ``infer``
    parameters.bin         the packed weights, raw bytes
    sample_input.npy       an input, and
    expected_output.npy    what the reference gave for it (a second output: expected_output_1.npy)
    tolerance              how far a result may be from that: ‖a - b‖ / ‖b‖
    LICENSES               of the code and weights inside
    signature              of manifest.json, where the bundle is signed (``bundle.signing``)
"""

from __future__ import annotations

from tvm_mobilenet.bundle.layout import (
    LIBRARY,
    LICENSES,
    MANIFEST,
    PARAMETERS,
    SIGNATURE,
    TOLERANCE,
    expected_output_name,
    is_bundle,
    required_files,
    sample_input_name,
)
from tvm_mobilenet.bundle.manifest import (
    FORMAT_VERSION,
    Accuracy,
    Layer,
    Manifest,
    Normalisation,
    Quantization,
    Resizing,
    Target,
    TensorInfo,
    WeightsFile,
)
from tvm_mobilenet.bundle.reading import ANY_ARCHITECTURE, Bundle, open_bundle
from tvm_mobilenet.bundle.writing import check_writable, record_accuracy, sign, write

__all__ = [
    "ANY_ARCHITECTURE",
    "FORMAT_VERSION",
    "LIBRARY",
    "LICENSES",
    "MANIFEST",
    "PARAMETERS",
    "SIGNATURE",
    "TOLERANCE",
    "Accuracy",
    "Bundle",
    "Layer",
    "Manifest",
    "Normalisation",
    "Quantization",
    "Resizing",
    "Target",
    "TensorInfo",
    "WeightsFile",
    "check_writable",
    "expected_output_name",
    "is_bundle",
    "open_bundle",
    "record_accuracy",
    "required_files",
    "sample_input_name",
    "sign",
    "write",
]
