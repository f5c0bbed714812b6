"""Adapters of the default setup: SQLite, and files in the data folder."""
