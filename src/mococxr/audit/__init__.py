"""A store looked over before training: odd, copied and leaking images, labels, shortcuts."""
