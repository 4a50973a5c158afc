"""A page about one run, to look at and to hand on: one HTML file that needs no network and runs no script."""
