"""Files as bytes: sources, atomic writing, compression, trailers, signatures."""
