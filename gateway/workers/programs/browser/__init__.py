"""The worker program that converts a browser's recording to H.264 and AAC.

Its messages are defined in `gateway.workers.browser_protocol`.
"""
