"""The offline engines: the vectors of a whole table, of shards on disk, or on Spark.

Imports `catalogue`, `codegen`, `files`, `intake`, `kernel`, `keys`, `records`. Start with `table`, then `packing`.
"""
