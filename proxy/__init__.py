"""The servers between clients and gateways: the playback edge, and the configuration of HAProxy."""
