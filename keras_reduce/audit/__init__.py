"""Analysis of pickles without executing them, and the allowlist of trusted globals."""
