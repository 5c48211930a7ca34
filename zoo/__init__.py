"""RL Zoo's side: its scripts with our algorithms, and training a DQN to be a teacher. Bundled agents and hyperparameters are data."""
