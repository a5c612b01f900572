"""As nests.py, of first convolutions: they read a plain image (N, C, H, W), so that none is packed.

What they multiply are its ``Pixels``, of which the padded rows are a block of their own, ``pad``:
the schedule computes it a band at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.nests import Activated, image_writer


@dataclass(frozen=True)
class Pixels:
    """What a first convolution reads of its image: numbers of ``dtype``, in so many ``planes``.

    There are none, (), where a pixel is one number. ``of`` makes a number of the image, the image's
    number, the plane, row and column; ``zero`` is what lies around them.
    """

    planes: tuple[int, ...]
    dtype: str
    of: Callable[..., Expr]
    zero: Expr

    def padded(
        self, image: tuple[int, int, int, int], padding: tuple[int, int, int, int]
    ) -> tuple[int, ...]:
        """The shape of an image's numbers with ``padding``: (top, bottom, left, right)."""
        (batch, _, height, width), (top, bottom, left, right) = image, padding
        return (batch, *self.planes, top + height + bottom, left + width + right)


@dataclass(frozen=True)
class PackedPixels(Pixels):
    """Those whose numbers hold so many ``values``; ``factor`` gives one of them by its place."""

    values: int
    factor: Callable[[Expr, Expr], Expr]


def image_padder(
    image: tuple[int, int, int, int], padding: tuple[int, int, int, int], pixels: Pixels
) -> Callable[..., None]:
    """Emits the block that writes an image's pixels, and what is around them, into ``rows``."""
    (*_, height, width), (top, _, left, _) = image, padding
    shape = pixels.padded(image, padding)

    @T.inline
    def pad(data, rows):
        for n, *k, h, w in T.grid(*shape):
            with T.sblock("pad"):
                vn, *vk, vh, vw = T.axis.remap("S" * len(shape), [n, *k, h, w])
                rows[(vn, *vk, vh, vw)] = T.if_then_else(
                    top <= vh and vh < top + height and left <= vw and vw < left + width,
                    pixels.of(data, vn, *vk, vh - top, vw - left),
                    pixels.zero,
                )

    return pad


def stem_convolution(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    activation: Activated,
    pixels: Pixels,
    rule: str,
) -> Callable[..., None]:
    """Emits the blocks that write a first convolution's image, a product at a time.

    Weights are (out.blocks, C, kh, kw, v). The padded rows are a block of their own, which the
    schedule computes a band at a time.
    """
    stride_h, stride_w = window.stride
    shape = pixels.padded(image, padding)
    pad, write_image = image_padder(image, padding, pixels), image_writer(out, activation)

    @T.inline
    def emit(data, weight, sums, result):
        rows = T.sblock_alloc_buffer(shape, pixels.dtype)
        acc = T.sblock_alloc_buffer(out.extents, sums.dtype)
        pad(data, rows)
        for n, o, h, w, c, k, kh, kw in T.grid(*out.extents, *pixels.planes, *window.kernel):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vk, vkh, vkw = T.axis.remap(
                    "SSSSSRRR", [n, o, h, w, c, k, kh, kw]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.cast(
                    rows[vn, vk, vh * stride_h + vkh, vw * stride_w + vkw], sums.dtype
                ) * T.cast(weight[vo, vk, vkh, vkw, vc], sums.dtype)
        write_image(acc, sums, result)

    return emit


def dot_stem_convolution(
    image: tuple[int, int, int, int],
    padding: tuple[int, int, int, int],
    out: Blocked,
    window: Window,
    activation: Activated,
    pixels: PackedPixels,
    rule: str,
    *,
    columns: int,
) -> Callable[..., None]:
    """As ``stem_convolution``, by dot products over the values of a number.

    Weights are (out.blocks, kh, kw, *planes, v, values). There are sums of so many ``columns``,
    which may be more than the image has.
    """
    stride_h, stride_w = window.stride
    shape = pixels.padded(image, padding)
    summed = (out.batch, out.blocks, out.height, columns, out.vector)
    kinds = "SSSSS" + "R" * (3 + len(pixels.planes))
    pad, write_image = image_padder(image, padding, pixels), image_writer(out, activation)

    @T.inline
    def emit(data, weight, sums, result):
        rows = T.sblock_alloc_buffer(shape, pixels.dtype)
        acc = T.sblock_alloc_buffer(summed, sums.dtype)
        pad(data, rows)
        for n, o, h, w, c, kh, kw, *k, i in T.grid(
            *summed, *window.kernel, *pixels.planes, pixels.values
        ):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, *vk, vi = T.axis.remap(
                    kinds, [n, o, h, w, c, kh, kw, *k, i]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + pixels.factor(
                    rows[(vn, *vk, vh * stride_h + vkh, vw * stride_w + vkw)], vi
                ) * T.cast(weight[(vo, vkh, vkw, *vk, vc, vi)], sums.dtype)
        write_image(acc, sums, result)

    return emit
