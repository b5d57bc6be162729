"""What every benchmark is measured with: the shapes, the clock, the peak of memory, and the floor."""
