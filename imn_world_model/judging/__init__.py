"""Answers for many images, figures, pictures, the report."""
