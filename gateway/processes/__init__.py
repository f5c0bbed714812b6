"""Several worker processes of one node: the master, its link to each worker, rolling restarts, summed metrics.

Streams are sent between worker processes like between nodes.
"""
