"""Enlace: the on-site gateway of an EV-charging and battery site."""

__version__ = "0.1.0"
