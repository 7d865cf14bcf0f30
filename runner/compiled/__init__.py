"""What dbt makes of the project, kept: unchanged code is built and tested without dbt.

project files -> `key` -> kept? -> `view`, `recording`s -> `player` -> results as dbt gives them
"""
