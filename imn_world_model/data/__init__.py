"""From recordings as they are to frames that training reads at memory speed."""
