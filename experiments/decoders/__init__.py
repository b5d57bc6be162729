"""The parts of `architecture.py`: decoders of one size, their training, and what is made of their answers."""
