"""Parts of the elicitation study: the published table and its figures, and the family that is trained."""
