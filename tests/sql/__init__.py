"""Tests of the SQL: golden cases collected from files, oracles in plain Python, and properties on generated
data."""
