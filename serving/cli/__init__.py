"""The commands of the services, and what all commands share: options, output, and the tree of commands.

Imports the other packages of `serving`, each where a command uses it. Start with `command_tree`.
"""
