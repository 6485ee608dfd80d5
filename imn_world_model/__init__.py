"""Independent Modular Networks: object identities and transform matrices from camera images."""

__version__ = '0.1.0'
