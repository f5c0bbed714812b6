"""SRT (draft-sharabayko-srt-01), without I/O: datagrams in, payloads and datagrams out.

A caller and a listener agree on a connection with two round trips. The *induction* gives the caller a cookie, which
proves its address. The *conclusion* carries all parameters. From then on each side sends data packets with numbers, and
control packets. The receiver acknowledges what is complete every 10 ms (ACK) and names what is missing (NAK). The
sender keeps each packet until it is acknowledged or too late.

Each data packet has the time at which the sender's program gave it away. The receiver delivers it exactly the *latency*
later, so the program of the receiver gets the rhythm of the sender. What is still missing at this time is left out.

Sequence numbers have 31 bits and time stamps 32 bits on the wire. Inside, both are integers that never wrap.
"""
