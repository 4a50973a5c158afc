"""Properties are tried with the same examples in every run, so that a failure is never a matter of luck."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("deterministic")
