"""What a merge puts in place of a checkpoint's weights."""
