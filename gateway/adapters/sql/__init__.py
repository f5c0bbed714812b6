"""Stores of rows, for SQLite and PostgreSQL. Their statements work in both, but for few expressions."""
