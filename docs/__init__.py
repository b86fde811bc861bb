"""The written documentation, and the script that keeps its reference true."""
