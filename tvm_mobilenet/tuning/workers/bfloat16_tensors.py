"""bfloat16 arrays as tensors of TVM's runtime: NumPy lends memory of its own types alone."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = (1, 0)  # DLPack's device type, and which
# Of DLPack's DLTensor: its data's address, the device (two int32) and the number of dimensions lie
# before the type's code.
CODE_OFFSET = 8 + 8 + 4
BFLOAT = 4  # that code
CAPSULE = b"dltensor"


class Bfloat16Memory:
    """Lends an array of bfloat16 by DLPack: as 16-bit integers, which are then called otherwise."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._bits = array.view("uint16")

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU

    def __dlpack__(self, **_: object) -> object:
        capsule: object = self._bits.__dlpack__()
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        address = pointer(capsule, CAPSULE)
        ctypes.c_uint8.from_address(address + CODE_OFFSET).value = BFLOAT
        return capsule


def lent(array: NDArray[Any]) -> Any:
    """What ``from_dlpack`` makes a tensor of that has the array's memory."""
    return Bfloat16Memory(array) if array.dtype.name == "bfloat16" else array
