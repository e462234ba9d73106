"""Retention: how long each delivery is kept, who orders its destruction, and what shows that it is gone."""
