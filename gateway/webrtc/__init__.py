"""WebRTC's transport: ICE-lite over UDP and TCP, DTLS and SRTP.

`endpoint.py` has the ports and all peers. The room knows no streams: packets go to the handler of each peer.
"""
