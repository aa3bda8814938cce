"""Burnish turns a base language model into a useful assistant, and proves that it is better."""

__version__ = "0.1.0"
