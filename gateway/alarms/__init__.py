"""Alarms: messages to people when a stream, an output, a disk or a node has a fault."""
