"""The programs of the worker processes. Only this package imports PyAV and Pillow.

A crash or a hang ends one worker process only; the gateway starts it again.
"""
