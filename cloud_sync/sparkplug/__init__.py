"""Sparkplug B 3.0: the site as an edge node of a Sparkplug host, in place of our own telemetry; ``docs/sparkplug.md``.

Bottom up: ``payload`` and ``read`` are the bytes, ``rows`` and ``records`` what is in them, ``node`` what lasts beyond
a connection, ``talk`` one connection.
"""
