"""What a reader can import."""


def activation(inputs):
    return 0.5 * inputs
