"""Pictures without torch and without a model: regions, objects apart from their background."""
