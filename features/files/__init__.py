"""How every file is read and written: whole or not at all, strictly, for the owner only, with progress.

Imports nothing of callsieve. Start with `atomic`.
"""
