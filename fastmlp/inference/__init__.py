"""Fast forward pass of a frozen model."""
