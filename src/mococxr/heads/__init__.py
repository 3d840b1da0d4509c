"""Heads on an encoder: the linear probe, fine-tuning, and the labels that they learn from."""
