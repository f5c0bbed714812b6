"""Adapters of the default set-up: SQLite and files in the data folder."""
