"""Devices on Modbus TCP and RTU."""
