"""The children of video on demand: packaging a file, and playing one in real time.

Their requests are in `gateway.workers.package_protocol`.
"""
