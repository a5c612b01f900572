"""A network and a target → native code."""
