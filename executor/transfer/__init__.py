"""Bytes in and bytes out: inputs by digest, outputs framed into quarantine."""
