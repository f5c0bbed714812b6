"""The programs of the worker processes. Only this package imports PyAV and Pillow.

A crash or a hang affects one worker process only. The gateway replaces it.
"""
