"""The vocabulary of the house: immutable values, ports, errors, clock and block codec.

Standard library only, imports nothing outside this package; a test holds it to that.
"""
