"""RTP for WebRTC viewers: each access unit is packetised once, and all viewers of a stream share the packets.

Viewers differ in payload types, in keys (`gateway.webrtc`) and, after a repeated start, in sequence numbers.
"""
