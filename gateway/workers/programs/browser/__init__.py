"""The worker program that converts the MediaRecorder data of a browser to H.264 and AAC.

Its messages are defined in `gateway.workers.browser_protocol`.
"""
