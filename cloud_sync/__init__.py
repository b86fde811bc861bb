"""From the outbox to the central server over MQTT, and commands back."""
