"""Benchmarks: each figure with its ratio, measured in one run. Never a timed test."""
