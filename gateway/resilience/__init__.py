"""Limits, breakers, retries, deadlines: policy as pure state, with time and chance as arguments."""
