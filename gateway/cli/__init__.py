"""The commands of `millrace`; each imports what it needs when it runs, so that the small ones start at once."""
