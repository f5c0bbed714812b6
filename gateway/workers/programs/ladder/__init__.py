"""The worker program that makes one or several renditions of a stream.

Its plan is defined in `gateway.workers.ladder_plan`.
"""
