"""Q-networks: plain single-member modules, and the population that runs many of them as one."""
