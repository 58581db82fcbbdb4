"""Other head models, imported from a user's own files into densefit's format."""
