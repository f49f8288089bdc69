"""Classes that an importable module holds; see `made_parts`."""

from __future__ import annotations

from pathlib import Path

import keras
import tensorflow as tf


class Embedding(keras.layers.Embedding):
    """An embedding that also computes logits, as language models tie them."""

    def call(self, inputs, reverse=False):
        if reverse:
            return keras.ops.matmul(inputs, keras.ops.transpose(self.embeddings))
        return super().call(inputs)

    def compute_output_spec(self, inputs, reverse=False):
        if reverse:
            return keras.KerasTensor((*inputs.shape[:-1], self.input_dim), self.compute_dtype)
        return super().compute_output_spec(inputs)


class Backbone(keras.Model):
    """A functional model whose constructor creates its layers, with its own config."""

    def __init__(self, words, width, **kwargs):
        embedding = Embedding(words, width, name="token_embedding")
        inputs = keras.Input((None,), dtype="int32", name="tokens")
        hidden = keras.layers.Dense(width, "tanh", name="hidden")(embedding(inputs))
        super().__init__(inputs, hidden, **kwargs)
        self.words, self.width = words, width
        self.token_embedding = embedding

    def get_config(self):
        return {"name": self.name, "words": self.words, "width": self.width}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class Task(keras.Model):
    """A base class whose config is enough for the constructors of its subclasses."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.compile()

    def compile(self, optimizer="sgd", loss=None, *, sampler="greedy", **kwargs):
        loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        self.sampler = Sampler(sampler) if isinstance(sampler, str) else sampler

    def get_config(self):
        return {"backbone": keras.saving.serialize_keras_object(self.backbone), "name": self.name}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(backbone, name=config["name"])


class Detector(keras.Model):
    """A model whose ``compile()`` builds the loss from its own arguments."""

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone.input, keras.layers.Dense(5)(backbone.output), **kwargs)
        self.backbone = backbone
        self.compile()

    def compile(self, optimizer="sgd", from_logits=True, scale=2.0, **kwargs):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        self.scale = Sampler("scale", scale)

    def get_config(self):
        return {"backbone": keras.saving.serialize_keras_object(self.backbone), "name": self.name}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(backbone, name=config["name"])


class Sampler:
    """A plain object, which is no Keras object."""

    def __init__(self, name, temperature=1.0):
        self.name, self.temperature = name, temperature


class CausalLM(Task):
    """A model whose output layer is the embedding of its backbone."""

    def __init__(self, backbone, **kwargs):
        outputs = backbone.token_embedding(backbone(backbone.input), reverse=True)
        super().__init__(backbone.input, outputs, **kwargs)
        self.backbone = backbone


class Head(keras.layers.Layer):
    """A layer that takes the embedding of a backbone, and has it in its config."""

    def __init__(self, embedding, **kwargs):
        super().__init__(**kwargs)
        self.parts = {"tied": [embedding]}
        self.dense = keras.layers.Dense(embedding.output_dim, "relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, inputs):
        return self.parts["tied"][0](self.dense(inputs), reverse=True)

    def get_config(self):
        embedding = keras.saving.serialize_keras_object(self.parts["tied"][0])
        return {**super().get_config(), "embedding": embedding}

    @classmethod
    def from_config(cls, config):
        embedding = keras.saving.deserialize_keras_object(config.pop("embedding"))
        return cls(embedding, **config)


class MaskedLM(Task):
    """A model with a layer that shares the embedding of the backbone."""

    def __init__(self, backbone, **kwargs):
        head = Head(backbone.token_embedding, name="head")
        super().__init__(backbone.input, head(backbone(backbone.input)), **kwargs)
        self.backbone = backbone


class Tied(keras.layers.Layer):
    """A layer that holds a part of another one: no constructor needs to be asked."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = keras.layers.MultiHeadAttention(1, 2)

    def build(self, shape):
        self.attention.build(shape, shape)
        self.query = self.attention._query_dense

    def call(self, inputs):
        query = keras.ops.sum(self.query(inputs), axis=-2)
        return self.attention(inputs, inputs) + keras.ops.mean(query, axis=-1, keepdims=True)


class Tokenizer(keras.layers.Layer):
    """A base class whose config leaves the vocabulary to assets."""

    def __init__(self, words=None, **kwargs):
        super().__init__(**kwargs)
        self.built = True
        self.set_words(words)

    def set_words(self, words):
        self.words = words
        if words is None:
            self.table = None
            return
        pairs = tf.lookup.KeyValueTensorInitializer(words, list(range(len(words))))
        self.table = tf.lookup.StaticHashTable(pairs, -1)

    def call(self, inputs):
        return self.table.lookup(inputs) + self.offset

    def save_assets(self, folder):
        Path(folder, "words").write_text("\n".join(self.words))

    def load_assets(self, folder):
        self.set_words(Path(folder, "words").read_text().split("\n"))

    def get_config(self):
        return super().get_config()


class ShiftedTokenizer(Tokenizer):
    """A subclass whose constructor takes more than the config of its base class knows."""

    def __init__(self, words=None, offset=0, clean=None, **kwargs):
        self.offset, self.clean = offset, clean
        super().__init__(words, **kwargs)


class Preprocessor(keras.layers.Layer):
    """A layer that takes a tokenizer, and has it in its config."""

    def __init__(self, tokenizer, **kwargs):
        super().__init__(**kwargs)
        self.tokenizer, self.built = tokenizer, True

    def call(self, inputs):
        return 2 * self.tokenizer(inputs)

    def get_config(self):
        tokenizer = keras.saving.serialize_keras_object(self.tokenizer)
        return {**super().get_config(), "tokenizer": tokenizer}

    @classmethod
    def from_config(cls, config):
        tokenizer = keras.saving.deserialize_keras_object(config.pop("tokenizer"))
        return cls(tokenizer, **config)


class Lookup(keras.layers.Layer):
    """A layer without ``get_config``: Keras records the arguments of its constructor."""

    def __init__(self, words, **kwargs):
        super().__init__(**kwargs)
        pairs = tf.lookup.KeyValueTensorInitializer(words, list(range(len(words))))
        self.table = tf.lookup.StaticHashTable(pairs, -1)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.built = True

    def call(self, inputs):
        return keras.ops.cast(self.table.lookup(inputs), "float32") * self.scale


class Unmakable(Tokenizer):
    """A class that can't be created from its config: the constructor requires more."""

    def __init__(self, words, offset, **kwargs):
        self.offset = offset
        super().__init__(words, **kwargs)


class LookupModel(keras.Model):
    """A model without a config, whose constructor Keras calls without arguments."""

    def __init__(self, words):
        super().__init__()
        pairs = tf.lookup.KeyValueTensorInitializer(words, list(range(len(words))))
        self.table = tf.lookup.StaticHashTable(pairs, -1)

    def call(self, inputs):
        return self.table.lookup(inputs)
