"""The cluster: several nodes share their streams.

It contains stream claims, lookups in the registry, pulls and pushes between nodes, and other requests between nodes. A
gateway without a cluster uses little of it.
"""
