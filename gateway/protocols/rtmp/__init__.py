"""RTMP 1.0 with Enhanced RTMP, both sides, sans-I/O.

Source: "Real-Time Messaging Protocol (RTMP) specification" 1.0 (Adobe, 2012); § numbers in this package are its.
"""
