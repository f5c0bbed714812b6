"""Adapters of the embedded default: SQLite and files in the data folder."""
