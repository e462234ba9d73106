"""Support: what tests of the whole workspace share."""
