"""Where a network comes from: exported from PyTorch or read from ONNX, then imported into Relax."""
