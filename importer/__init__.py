"""Adds very many existing contacts to Exotel Campaigns lists, and accounts for every row."""

__version__ = "0.1.0"
