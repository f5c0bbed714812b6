"""The worker program that encodes one or more renditions of a stream.

Its plan is defined in `gateway.workers.ladder_plan`.
"""
