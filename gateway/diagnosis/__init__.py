"""Diagnoses streams: their health, refused pushes, events, history, and the reports of viewers.

The modules observe and report. They never change a stream.
"""
