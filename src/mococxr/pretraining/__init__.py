"""Self-supervised pretraining on unlabelled images: methods, the loop around them, and what a run leaves."""
