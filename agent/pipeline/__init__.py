"""From drivers to everybody: supervision, report by exception, latest values, fan-out."""
