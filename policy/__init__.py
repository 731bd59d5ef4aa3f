"""The policy: default deny, in files that a security reviewer signs off, decided by pure functions.

Knows neither the executor nor signing. Decisions depend on (policy, inspection) alone, so that anyone can repeat them.
"""
