"""Meters on serial lines: DSMR P1, SML, IEC 62056-21 (D0) and M-Bus."""
