"""Reading and writing of files: whole or not at all, strictly checked, for the owner only, with progress.

Imports nothing of callsieve. Start with `atomic`.
"""
