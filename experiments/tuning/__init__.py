"""The parts of `finetuning.py`: training data, cells, tables, figures and what they say."""
