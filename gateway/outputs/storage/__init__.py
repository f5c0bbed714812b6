"""Recorded files: local disk, spool, upload to the object store, recovery after a crash, retention, deletion.

Recordings, pictures and motion clips use it.
"""
