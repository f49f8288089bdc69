"""Reading pickles without executing them, and the list of what is trusted."""
