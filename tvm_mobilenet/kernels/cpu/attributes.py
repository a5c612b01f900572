"""Attributes of kernels that the tuner's workers read too: nothing of TVM is imported here."""

IN_FIXED_POINT = "in_fixed_point"  # the places of a kernel's bias and scale
