"""Independent judges of a running gateway's outputs: the rules of the standards, and parsers of other projects."""
