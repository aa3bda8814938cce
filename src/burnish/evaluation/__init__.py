"""Measuring models: tasks, the runner that asks and grades, statistics, and the report page."""
