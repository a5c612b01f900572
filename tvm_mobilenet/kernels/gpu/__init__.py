"""The kernels for GPUs: channels last, float32 sums whatever the activations are stored in."""
