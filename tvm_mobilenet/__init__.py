"""MobileNet from PyTorch through ONNX into Apache TVM, tuned per target and shipped as bundles."""

__version__ = "0.2.0"
