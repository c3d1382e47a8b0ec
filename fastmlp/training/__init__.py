"""Trainer, batches, augmentation and evaluation."""
