"""What happened to streams and what is wrong with them: health, refusals, events, history, viewers' reports.

The modules observe and report. They never change a stream.
"""
