"""Scheduled kernels → one program for a CPU."""
