"""What nvcc does with kernels.cu on a machine whose GPU is emulated: a module for this CPU.

Run as ``emulated_nvcc.py FOLDER ARGUMENT...``: what ``cuda_emulator.machine`` made, then what nvcc
is called with.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a program, by the stand-in for nvcc

from support import cuda_emulator


def main() -> None:
    folder, *arguments = sys.argv[1:]
    arch = re.search(r"sm_\d+", " ".join(arguments))
    assert arch is not None
    image = cuda_emulator.module_image(Path("kernels.cu").read_text(), Path(folder))
    Path("kernels.fatbin").write_bytes(image)
    Path(f"kernels.{arch[0]}.cubin").write_bytes(b"")
    Path("kernels.ptx").write_text("")


if __name__ == "__main__":
    main()
