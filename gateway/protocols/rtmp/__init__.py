"""RTMP 1.0 with Enhanced RTMP, server and client, without I/O.

Source: "Real-Time Messaging Protocol (RTMP) specification" 1.0 (Adobe, 2012). The § numbers in this package refer to
it.
"""
