"""A model at work, looked at from week to week: `drift` compares its images with those that it learned from."""
