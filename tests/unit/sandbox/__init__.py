"""The sandbox: its rules under a fake clock, and its promises over real HTTP."""
