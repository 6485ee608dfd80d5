"""From a configuration and frames to a run folder."""
