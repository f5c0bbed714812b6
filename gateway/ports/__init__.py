"""Interfaces to everything outside the process (stores, registry, cloud), and the errors that they share.

The adapters implement them. All other packages use the interfaces and know no adapter.
"""
