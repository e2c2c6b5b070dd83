"""The stream kernel: the window arithmetic one event at a time, on the memory of a history.

Imports `kernel`. Start with `stream_pass`, then `call_store` and `time_order`.
"""
