"""Combining models' parameters, tensor by tensor from disk."""
