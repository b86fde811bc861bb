"""Pure bytes -> values. Nothing here can block, log or read a clock."""
