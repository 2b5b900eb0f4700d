"""Values and decisions.

Nothing in here waits, asks, writes, logs or looks at a clock: every function takes values and
returns values, so every rule of Homeroom can be read and tested without a server. Of mautrix it
knows only the types (`TID251` in pyproject.toml keeps it so).
"""
