"""The commands of `millrace`. Each imports its modules when it runs, so that small commands start at once."""
