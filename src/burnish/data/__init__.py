"""Rows: reading, converting, filtering, pairing and describing them. No torch."""
