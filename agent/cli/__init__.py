"""The ``enlace`` command.

Each command is a module of this package with ``add_parser(commands)`` and a function of the parsed arguments that gives
the exit code. Heavy imports stand inside these functions, so that ``enlace decode`` loads no web server.
"""
