"""How a bundle's C library is made."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_mobilenet.library.naming import check_name


@dataclass(frozen=True)
class LibraryOptions:
    """``name`` is what its functions begin with, None for one after the network's.

    ``embed_weights`` puts the weights into the library, ``static`` adds an archive to link into a
    program. Raises BadInput for a name that C functions cannot begin with.
    """

    name: str | None = None
    embed_weights: bool = False
    static: bool = False

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)


DEFAULT = LibraryOptions()
