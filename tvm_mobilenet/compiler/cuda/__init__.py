"""Compiling a network for NVIDIA GPUs: kernels → CUDA C++ → machine code → one library."""
