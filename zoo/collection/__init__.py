"""A collection: an index of a user's own pictures, which are never copied, moved or written to."""
