"""The C library that a CPU bundle's ``model.so`` is: its runtime, header, linking and packaging.

``native/`` is the runtime in C: contexts, weights, a pool of threads. ``building`` compiles it for
the target together with a description of the network and links it with the kernels.
"""
