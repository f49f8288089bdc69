"""What the families of Keras have in common."""
