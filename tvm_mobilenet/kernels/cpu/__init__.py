"""What each kernel computes on CPUs, over channels in blocks of a vector."""
