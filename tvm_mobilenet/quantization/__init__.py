"""A float network and samples of its input → the same network as QDQ ONNX, and how good it is."""
