"""LLVM instructions that Numba does not offer."""

from __future__ import annotations

from functools import cache
from typing import Any

FOR_READING, TO_STAY, OF_DATA = 0, 3, 1


@cache
def prefetch() -> Any:
    """Returns a function that prefetches the cache line of an array element; compiled code can call it.

    Raises:
        ImportError: if Numba is not installed.
    """
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    def typed(_: Any, array: Any, place: Any) -> Any:  # noqa: ARG001 - Numba reads how many arguments there are
        def written(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            held = context.make_array(signature.args[0])(context, builder, given[0])
            whole = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), whole, whole, whole])
            fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            line = builder.gep(held.data, [given[1]])
            builder.call(fetch, [line, *(whole(how) for how in (FOR_READING, TO_STAY, OF_DATA))])
            return context.get_dummy_value()

        return types.void(array, types.intp), written

    return intrinsic(typed)
