"""JSON Schemas of every document that people write or programs read."""
