"""Stands in for pip where there is no network: notes what would be installed."""
