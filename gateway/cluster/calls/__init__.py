"""Requests between nodes, and the answers to them."""
