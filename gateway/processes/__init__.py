"""Several worker processes of one node: the master, its link to each worker, rolling restarts, summed metrics.

Streams pass between worker processes in the same way as between nodes.
"""
