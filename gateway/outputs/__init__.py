"""The outputs of a stream besides playback, one folder for each output.

`gateway.live` starts, supervises and ends them.
"""
