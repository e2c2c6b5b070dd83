"""Files of call records in any layout become one table; invalid rows go to quarantine.

Imports `files`, `keys`. Start with `call_files`.
"""
