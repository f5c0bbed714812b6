"""Implementations of `gateway.ports`: SQLite and disk, and AWS.

Only `gateway.adapters.aws` imports the AWS libraries.
"""
