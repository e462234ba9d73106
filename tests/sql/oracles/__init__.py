"""The queries again, in boring Python: lists, dictionaries and loops, written from the decisions, not from
the SQL."""
