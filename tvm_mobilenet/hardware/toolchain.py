"""Which Debian package brings a compiler that a target file names."""

from __future__ import annotations

NDK_PACKAGE = "google-android-ndk-installer"  # in contrib; the NDK itself comes from Google


def package_of(compiler: str) -> str | None:
    """The package to apt-get install for ``compiler``; None where Debian has none.

    Cross compilers are named after their triple: ``aarch64-linux-gnu-gcc`` is in
    ``gcc-aarch64-linux-gnu``.
    """
    triple, _, tool = compiler.rpartition("-")
    if "android" in triple:
        return NDK_PACKAGE
    if tool in ("gcc", "g++"):
        return f"{tool}-{triple}" if triple else tool
    return {"cc": "gcc", "c++": "g++", "clang": "clang"}.get(compiler)
