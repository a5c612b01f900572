"""The sizes of the probes in a bundle's library, which compiler and profiler have to agree on."""

PEAK_OPERATIONS = 38_400_000  # additions and multiplications of one call of a peak's probe
SCRATCH_FLOATS = 256  # a peak's probe reads its factors here and leaves its results
FLOAT_BYTES = 4
STREAM_ROW = 64  # floats: ``stream_read`` sums the columns of rows of this length
