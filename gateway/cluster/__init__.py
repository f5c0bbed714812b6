"""The cluster: several nodes share their streams.

It contains stream claims, lookups in the registry, pulls and pushes between nodes, and other requests between nodes.
"""
