"""Devices other than this machine: boards that an RPC tracker holds, and emulated ARM ones."""
