"""Code that the families of Keras 2 and Keras 3 share."""
