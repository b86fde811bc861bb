"""CAN buses: frames in, batches out."""
