"""The worker program that makes slates: from a picture, from a film, or a card with a text.

The request is defined in `gateway.workers.slate_protocol`.
"""
