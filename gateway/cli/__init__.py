"""The commands of `millrace`. Each command imports its modules when it runs, so that small commands start fast."""
