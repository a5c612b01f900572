"""The graph's passes: constants folded, layers found, each made into calls of our kernels."""
