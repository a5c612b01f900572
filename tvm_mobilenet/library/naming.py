"""The name that a network's C functions begin with."""

from __future__ import annotations

import keyword
import re

from tvm_mobilenet.bundle.meaning import NAME
from tvm_mobilenet.errors import BadInput

RESERVED = {"tmn", "lib", "std", "test", "int", "main"} | set(keyword.kwlist)


def name_from(text: str) -> str:
    """A name made of any text, such as ``mobilenet_v1_1_224`` of mobilenet_v1-1-224."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    name = name if re.match("[a-z]", name) else f"network_{name}".rstrip("_")
    return f"{name}_network" if name in RESERVED else name[:63]


def check_name(name: str) -> str:
    """``name``, where C functions can begin with it. Raises BadInput where they cannot."""
    if not NAME.fullmatch(name) or name in RESERVED:
        raise BadInput(
            f"--name {name}: expected a lower-case C identifier such as mobilenet_v1_1_224"
        )
    return name
