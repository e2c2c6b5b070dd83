"""The offline engines: the vectors of a whole table, of shards on disk, or on Spark.

Imports `catalogue`, `codegen`, `files`, `intake`, `kernel`, `keys`, `reading`, `records`. Start with `table`, then
`packing`; for files of any length with `keyed_file`, then `shards`.
"""
