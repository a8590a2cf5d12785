"""The parts of examples/train_sharded.py."""
