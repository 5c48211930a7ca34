"""Agents leave: what they do from observation to action as ONNX, TorchScript or C, checked against SB3's ``predict``."""
