"""Training loops that read from top to bottom, and the parts they share."""
