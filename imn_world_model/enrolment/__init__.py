"""Identities that come and go in a model file."""
