"""Environments that pay the teacher's reward."""
