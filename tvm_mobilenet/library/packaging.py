"""What lets CMake's ``find_package`` and pkg-config find a bundle's library: two small files.

Both count from where they lie, so that a bundle may be moved.
"""

from __future__ import annotations

from tvm_mobilenet.bundle.layout import archive_name, cmake_name, header_name, shared_name
from tvm_mobilenet.bundle.manifest import Manifest

VERSION = "1"  # of the interface, as in native/types.h

CMAKE = """\
# find_package({name} CONFIG): {name}::{name}, the shared library{and_static}.
get_filename_component({name}_DIRECTORY "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)
set({name}_WEIGHTS "${{{name}_DIRECTORY}}/parameters.bin")
if(NOT TARGET {name}::{name})
  add_library({name}::{name} SHARED IMPORTED)
  set_target_properties({name}::{name} PROPERTIES
    IMPORTED_LOCATION "${{{name}_DIRECTORY}}/{shared}"
    IMPORTED_SONAME "lib{name}.so"
    INTERFACE_INCLUDE_DIRECTORIES "${{{name}_DIRECTORY}}")
endif()
"""
STATIC = """\
if(NOT TARGET {name}::static)
  set(THREADS_PREFER_PTHREAD_FLAG ON)
  find_package(Threads REQUIRED)
  add_library({name}::static STATIC IMPORTED)
  set_target_properties({name}::static PROPERTIES
    IMPORTED_LOCATION "${{{name}_DIRECTORY}}/{archive}"
    INTERFACE_INCLUDE_DIRECTORIES "${{{name}_DIRECTORY}}"
    INTERFACE_LINK_LIBRARIES "Threads::Threads;m")
endif()
"""
PKG_CONFIG = """\
prefix=${{pcfiledir}}
weights=${{prefix}}/parameters.bin

Name: {name}
Description: the network {name}, compiled for {target}
Version: {version}
Cflags: -I${{prefix}}
Libs: -L${{prefix}}/lib -l{name}
Libs.private: -lpthread -lm
"""


def package_files(manifest: Manifest, header: str, *, static: bool) -> dict[str, str]:
    """The text files of a library's package, by their place in the bundle."""
    name = manifest.name
    places = {"name": name, "shared": shared_name(name), "archive": archive_name(name)}
    and_static = f"; {name}::static" if static else ""
    cmake = CMAKE.format(and_static=and_static, **places)
    pkg_config = PKG_CONFIG.format(name=name, target=manifest.target.name, version=VERSION)
    return {
        header_name(name): header,
        cmake_name(name): cmake + (STATIC.format(**places) if static else ""),
        f"{name}.pc": pkg_config,
    }
