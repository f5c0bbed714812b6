"""SRT over UDP sockets: the connections of the listener, and those that we open. `protocols.srt` has the protocol.

A *link* is an established connection with its socket. Its *user* gets the payloads: a push, player, relay or pull.
"""
