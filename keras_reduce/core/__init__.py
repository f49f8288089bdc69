"""What reducing is made of: payloads, weights, code by value, and what picklers are asked."""
