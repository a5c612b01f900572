"""Trained weights from files of other programs, for the networks of ``models``.

A file is read into arrays by name (``torch_files``, ``keras_files``, ``tensorflow_files``), whose
names say which program they are from (``sources``); ``names`` says what that program calls each
tensor, ``matching`` fits the arrays to a configuration, and ``recipe`` knows what else follows for
the network and for pictures. ``reading.read`` is all of that.
"""

from __future__ import annotations

from tvm_mobilenet.weights.reading import Trained, build, hash_of, is_weights, read, rebuild

__all__ = ["Trained", "build", "hash_of", "is_weights", "read", "rebuild"]
