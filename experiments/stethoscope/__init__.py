"""Which modules reason: grafting, training and destroying them, each beside as many parameters of other modules."""
