"""The cluster: several nodes share the streams.

It holds the registry's readers, claims, pulls between nodes, and requests to other nodes. A gateway without a cluster
uses none of it.
"""
