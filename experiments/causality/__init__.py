"""The parts of `attention_causality.py`: the cells, the tables and the figures."""
