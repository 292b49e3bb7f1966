"""What one trial does: plain PyTorch. Only `trainable.py` knows Ray."""
