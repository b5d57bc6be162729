"""Other toolkits' forms of the same things: models handed over and taken in, captured values renamed."""
