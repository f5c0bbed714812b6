"""Proves by a history of claims that no stream had two holders, whatever failed."""
