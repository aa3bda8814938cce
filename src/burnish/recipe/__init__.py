"""A recipe is named steps that refer to each other: load it, plan it without compute, run it."""
