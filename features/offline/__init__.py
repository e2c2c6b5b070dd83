"""The same vectors for a whole table, for shards on disk, or on Spark.

Imports `catalogue`, `codegen`, `files`, `intake`, `keys`, `kernel`. Start with `table`.
"""
