"""Moves recorded files to the object store: spool, upload, recovery after a crash, retention, deletion.

Recordings, pictures and motion clips use it.
"""
