"""Streams between nodes: claims, replicas that are pulled, and pushes that are forwarded."""
