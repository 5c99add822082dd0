"""Root mean square norm as one Triton kernel."""

import triton
import triton.language as tl


@triton.jit
def normalise(
    x, weight, y, rows, eps, offset, x_outer, x_inner,
    inner: tl.constexpr, dim: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr, IS_ROUNDED: tl.constexpr,
):  # fmt: skip
    """Norm of rows [dim] of x [outer, inner, dim] times weight + offset; `IS_ROUNDED` rounds before the weight."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    at = tl.arange(0, DIM)[None, :]
    is_in = (row < rows) & (at < dim)
    read = tl.load(x + (row // inner) * x_outer + (row % inner) * x_inner + at, mask=is_in, other=0.0).to(tl.float32)
    read = read * (1.0 / tl.sqrt(tl.sum(read * read, axis=1) / dim + eps))[:, None]
    scale = tl.load(weight + at, mask=at < dim, other=0.0).to(tl.float32) + offset
    if IS_ROUNDED:
        read = read.to(y.dtype.element_ty).to(tl.float32)
    tl.store(y + row * dim + at, (read * scale).to(y.dtype.element_ty), mask=is_in)
