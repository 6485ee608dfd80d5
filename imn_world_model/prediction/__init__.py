"""What actions do to a state: learnt, exported, judged."""
