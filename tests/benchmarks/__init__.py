"""Speed, memory and growth, measured side by side; run by ``make bench``."""
