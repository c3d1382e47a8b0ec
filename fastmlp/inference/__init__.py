"""Predictor: the forward pass of a frozen model."""
