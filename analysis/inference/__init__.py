"""How sure: bootstrap, intervals, likelihoods and profiles."""
