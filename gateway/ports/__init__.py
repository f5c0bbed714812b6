"""Interfaces to everything outside the process (stores, registry, cloud), and their common errors.

The adapters implement them. All other packages use only the interfaces.
"""
