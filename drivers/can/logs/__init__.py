"""Recorded CAN traffic: frames of a log file of any common tool, in the order in which they stand in it.

``read_log`` is all that the rest of the program needs. Rules of this folder:

1. The format is told by content, never by name. Every text format is one ``LineReader``; those that can read the
   first lines compete, and the one that finds most frames in them reads the log. A new format is one more reader.
2. Memory does not grow with the log: lines are read one by one, and a line is cut at 8 KiB.
3. What cannot be read is a counted ``BadFrame`` between its neighbours. The end of a log is its end, never damage.
"""

from drivers.can.logs.detect import KNOWN_FORMATS, read_log, read_log_stream
from drivers.can.logs.frame import LogFrame

__all__ = ["KNOWN_FORMATS", "LogFrame", "read_log", "read_log_stream"]
