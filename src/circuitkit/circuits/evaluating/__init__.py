"""What a circuit does alone, and how sure it is."""
