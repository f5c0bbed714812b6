"""The admin listener: REST API, metrics, health."""
