"""What is kept: telemetry in blocks, the ledger of what must never be lost, and the one writer thread."""
