"""Requests for information or about data on a person: received, timed, answered from metadata, closed."""
