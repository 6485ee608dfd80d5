"""Section III of the paper, a file for each group of equations; open ``imn.py`` first."""
