"""Training loop, batches, augmentation and evaluation."""
