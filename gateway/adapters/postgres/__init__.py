"""The stores in a PostgreSQL database."""
