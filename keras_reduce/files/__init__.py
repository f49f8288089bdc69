"""Files as bytes: where they come from, atomic writing, compression, trailers, signatures."""
