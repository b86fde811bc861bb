"""The dashboard: its source, and ``dist/``, what is served of it. README.md says how it is made."""
