"""LLVM instructions that Numba does not offer."""

from __future__ import annotations

from functools import cache
from typing import Any

READ, KEEP_IN_CACHE, DATA = 0, 3, 1  # arguments of llvm.prefetch


@cache
def prefetch() -> Any:
    """Returns a function that prefetches the cache line of an array element; compiled code can call it.

    Raises:
        ImportError: if Numba is not installed.
    """
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    def typed(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - Numba reads the number of arguments
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array_struct = context.make_array(signature.args[0])(context, builder, arguments[0])
            int32 = ir.IntType(32)
            function_type = ir.FunctionType(ir.VoidType(), [ir.PointerType(), int32, int32, int32])
            fetch = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
            element = builder.gep(array_struct.data, [arguments[1]])
            builder.call(fetch, [element, *(int32(value) for value in (READ, KEEP_IN_CACHE, DATA))])
            return context.get_dummy_value()

        return types.void(array, types.intp), generate

    return intrinsic(typed)
