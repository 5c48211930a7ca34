"""Whole episodes, scores, tables and learning curves."""
