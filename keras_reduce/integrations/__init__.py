"""What is changed in other people's modules, and what their engines need."""
