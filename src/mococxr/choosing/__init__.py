"""What to label next: unlabelled images of a store, by the features of an encoder or at random -> a list to fill in."""
