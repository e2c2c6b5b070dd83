"""The same arithmetic one event at a time: the data structures of a history in memory, in the subset that compiles.

Imports `kernel`. Start with `stream_pass`.
"""
