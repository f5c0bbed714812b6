"""The worker programs of video on demand: one converts a file to HLS, one plays a file in real time.

Their messages are defined in `gateway.workers.package_protocol`.
"""
