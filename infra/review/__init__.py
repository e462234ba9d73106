"""The exceptional case review: from a request to a list that one hospital alone can read.

See ``README.md`` beside this file for the story, the states and what each party can and cannot do.
"""
