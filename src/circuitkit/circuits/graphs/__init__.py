"""Graphs of a decoder's components: their edges, scores and circuits."""
