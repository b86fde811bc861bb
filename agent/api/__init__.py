"""The local HTTP API: reads the hub and the store, holds no business logic."""
