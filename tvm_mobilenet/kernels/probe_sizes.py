"""The sizes of the probes in a bundle's library, which compiler and profiler have to agree on."""

FMA_FLOPS = 38_400_000  # floating-point operations of one call of ``fma_peak``
SCRATCH_FLOATS = 256  # ``fma_peak`` reads its factors here and leaves its results
FLOAT_BYTES = 4
STREAM_ROW = 64  # floats: ``stream_read`` sums the columns of rows of this length
