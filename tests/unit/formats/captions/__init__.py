"""Tests of `gateway.formats.captions`."""
