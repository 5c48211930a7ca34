"""The algorithms: distillation with SB3's PPO and A2C, policy distillation, several tasks, and online."""
