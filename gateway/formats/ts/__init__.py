"""MPEG transport streams as HLS segments carry them (ISO/IEC 13818-1)."""
