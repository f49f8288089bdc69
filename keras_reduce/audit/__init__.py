"""What a pickle names and what its bytes say; nothing here can build an object."""
