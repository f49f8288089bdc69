"""Objects of KerasHub, KerasTuner and HGQ2, which build on Keras 3; see `library_cases`."""

from __future__ import annotations

import inspect
import io
import os
import tempfile

import keras
import keras_hub
import keras_tuner
import numpy as np
import sentencepiece
import tensorflow as tf
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.layers import QBatchNormalization, QConv2D, QDense, QMultiHeadAttention

from library_backbones import ARGUMENTS, RESNET
from library_cases import carried, main

LAYERS, MODELS, TOKENIZERS = keras_hub.layers, keras_hub.models, keras_hub.tokenizers

# --- KerasHub: backbones ----------------------------------------------------------------------

# Values for the arguments of all backbones, by name.
SMALL = {
    "activation": "relu",
    "bucket_size": 4,
    "decoder_hidden_dim": 8,
    "decoder_num_heads": 2,
    "decoder_num_layers": 1,
    "dropout": 0.0,
    "embedding_dim": 8,
    "embedding_size": 8,
    "encoder_hidden_dim": 8,
    "encoder_num_heads": 2,
    "encoder_num_layers": 1,
    "final_logit_soft_cap": 30,
    "attention_logit_soft_cap": 50,
    "global_attention_layer_indices": [0],
    "growth_rate": 4,
    "head_dim": 4,
    "head_size": 4,
    "hidden_dim": 8,
    "hidden_size": 8,
    "image_shape": (32, 32, 3),
    "intermediate_dim": 16,
    "max_sequence_length": 6,
    "mlp_dim": 16,
    "moe_intermediate_dim": 8,
    "num_attention_heads": 2,
    "num_experts": 2,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "num_layers": 1,
    "num_layers_dec": 1,
    "num_layers_enc": 1,
    "num_query_heads": 2,
    "patch_size": 8,
    "query_head_dim_normalize": True,
    "shared_expert_intermediate_dim": 8,
    "shared_expert_intermediate_size": 8,
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_filters": [8, 8],
    "stackwise_num_repeats": [1, 1],
    "stackwise_num_strides": [1, 2],
    "top_k": 1,
    "use_post_attention_norm": False,
    "use_post_ffw_norm": False,
    "use_sliding_window_attention": False,
    "vocab_size": 12,
    "vocabulary_size": 12,
}
# Backbones that are left out, with the reason.
NOT_TRIED = {
    "BASNetBackbone": "has 50 million weights at any size",
    "BLIP2Backbone": "needs a language model and a Q-Former of certain sizes",
    "DFineBackbone": "has forty arguments that depend on each other",
    "FluxBackbone": "has no inputs of its own: its images are latent ones",
    "Gemma3nBackbone": "needs configs of a vision and of an audio model",
    "MobileNetV5Backbone": "has twenty lists of arguments that depend on each other",
    "SAM3PromptableConceptBackbone": "is made of six encoders and decoders",
}


def backbones_by_name():
    """Yield the names of the backbones that are tried, with their arguments."""
    for name in sorted(dir(MODELS)):
        is_base = name in ("Backbone", "FeaturePyramidBackbone")
        if not name.endswith("Backbone") or is_base or name in NOT_TRIED:
            continue
        parameters = inspect.signature(getattr(MODELS, name).__init__).parameters
        make = ARGUMENTS.get(name)
        yield name, make() if make else {k: v for k, v in SMALL.items() if k in parameters}


def answers(model):
    """Return the outputs of a model for inputs of its shapes, and its weights."""
    rng = np.random.default_rng(0)

    # Audio must be as long as the windows of its convolutions.
    is_sound = isinstance(model.input, dict) and "encoder_input_values" in model.input

    def given(tensor):
        length = 1000 if is_sound and tensor.name.startswith("encoder_") else 6
        shape = [2, *(size or length for size in tensor.shape[1:])]
        if "int" in tensor.dtype:
            return rng.integers(1, 2, shape)
        return rng.random(shape).astype(tensor.dtype)

    inputs = keras.tree.map_structure(given, model.input)
    outputs = keras.tree.flatten(model(inputs))
    names = [variable.path for variable in model.weights]
    return [*map(np.asarray, outputs), names, *map(np.asarray, model.get_weights())]


@carried
def hub_backbones():
    for name, arguments in backbones_by_name():
        yield name, getattr(MODELS, name)(**arguments), answers


# --- KerasHub: tokenizers, preprocessors, layers ------------------------------------------------

BYTE_PAIRS = {
    "vocabulary": {"<s>": 0, "<pad>": 1, "</s>": 2, "<mask>": 3, "<|endoftext|>": 4}
    | {"a": 5, "b": 6, "ab": 7, "\u0120": 8, "\u0120a": 9},
    "merges": ["a b", "\u0120 a"],
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "c", "ab"]
TEXTS = ["ab a b", "a ab"]


def pieces():
    """Return the bytes of a small SentencePiece model."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ab a b c"]),
        model_writer=written,
        vocab_size=10,
        model_type="WORD",
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece="<pad>",
        unk_piece="<unk>",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        user_defined_symbols="[MASK]",
    )
    return written.getvalue()


def tokens(tokenizer):
    return flat([tokenizer(TEXTS), tokenizer(tf.constant(TEXTS[0])), tokenizer.get_config()])


def flat(nest):
    """Return a nest as NumPy arrays, lists and plain values."""
    if isinstance(nest, tf.RaggedTensor):
        return nest.to_list()
    if isinstance(nest, dict):
        return {name: flat(value) for name, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return [flat(value) for value in nest]
    return np.asarray(nest) if keras.ops.is_tensor(nest) else nest


class OwnTokenizer(TOKENIZERS.WordPieceTokenizer):
    """A user-defined tokenizer."""

    def __init__(self, vocabulary=None, suffix="", **kwargs):
        super().__init__(vocabulary, **kwargs)
        self.suffix = suffix

    def tokenize(self, inputs):
        return super().tokenize(tf.strings.join([inputs, self.suffix]))


def hub_tokenizers_by_name():
    yield "byte pairs", TOKENIZERS.BytePairTokenizer(**BYTE_PAIRS)
    yield "words", TOKENIZERS.WordPieceTokenizer(WORDS, sequence_length=4)
    yield "sentences", TOKENIZERS.SentencePieceTokenizer(pieces())
    yield "bytes", TOKENIZERS.ByteTokenizer(sequence_length=4)
    yield "code points", TOKENIZERS.UnicodeCodepointTokenizer(sequence_length=4)
    for name in ("GPT2", "Roberta"):
        yield name, getattr(MODELS, f"{name}Tokenizer")(**BYTE_PAIRS)
    for name in ("Bert", "DistilBert", "Electra"):
        yield name, getattr(MODELS, f"{name}Tokenizer")(WORDS)
    for name in ("Albert",):
        yield name, getattr(MODELS, f"{name}Tokenizer")(pieces())
    for name, tokenizer in (("GPT2", BYTE_PAIRS), ("Bert", {"vocabulary": WORDS})):
        without_python = getattr(MODELS, f"{name}Tokenizer")(
            **tokenizer, _allow_python_workflow=False
        )
        yield f"{name} without Python", without_python


@carried
def hub_tokenizers():
    for name, tokenizer in hub_tokenizers_by_name():
        yield name, tokenizer, tokens
    used = MODELS.GPT2Tokenizer(**BYTE_PAIRS)
    tf.data.Dataset.from_tensors(TEXTS[0]).map(used).get_single_element()
    yield "used within a dataset", used, tokens


@carried
def hub_preprocessors():
    def said(preprocessor):
        keras.utils.set_random_seed(1)
        return flat([preprocessor(TEXTS), preprocessor.get_config()["sequence_length"]])

    gpt2, bert = MODELS.GPT2Tokenizer(**BYTE_PAIRS), MODELS.BertTokenizer(WORDS)
    yield "GPT2", MODELS.GPT2Preprocessor(gpt2, sequence_length=6), said
    yield "causal", MODELS.GPT2CausalLMPreprocessor(gpt2, sequence_length=6), said
    yield "classifier", MODELS.BertTextClassifierPreprocessor(bert, sequence_length=6), said
    masked = MODELS.BertMaskedLMPreprocessor(bert, sequence_length=6, mask_selection_rate=0.5)
    yield "masked", masked, lambda copied: flat(copied.get_config()["mask_selection_rate"])
    yield (
        "images",
        LAYERS.ImageConverter(image_size=(4, 4), scale=0.5),
        lambda converter: flat(
            [converter(np.arange(3 * 64, dtype="float32").reshape(1, 8, 8, 3)), converter.scale]
        ),
    )
    yield (
        "audio",
        LAYERS.WhisperAudioConverter(num_mels=4, max_audio_length=1),
        lambda copied: flat(copied(np.linspace(-1, 1, 500, dtype="float32"))),
    )


@carried
def hub_layers():
    x = np.random.default_rng(0).random((2, 6, 8)).astype("float32")
    tokens = np.arange(12).reshape(2, 6)

    def on(*given, **named):
        def use(layer):
            keras.utils.set_random_seed(2)
            outputs = layer(*given, **named)
            return flat([outputs, [np.asarray(value) for value in layer.variables]])

        return use

    def built(layer, use):
        use(layer)
        return layer

    for name, layer, use in (
        ("encoder", LAYERS.TransformerEncoder(16, 2, dropout=0.1), on(x)),
        ("decoder", LAYERS.TransformerDecoder(16, 2), on(x, encoder_sequence=x)),
        ("FNet", LAYERS.FNetEncoder(16), on(x)),
        ("positions", LAYERS.PositionEmbedding(6), on(x)),
        ("rotary", LAYERS.RotaryEmbedding(), on(x)),
        ("sines", LAYERS.SinePositionEncoding(), on(x)),
        ("embedding", LAYERS.TokenAndPositionEmbedding(12, 6, 8), on(tokens)),
        ("reversible", LAYERS.ReversibleEmbedding(12, 8, tie_weights=False), on(tokens)),
        ("attention", LAYERS.CachedMultiHeadAttention(2, 4), on(x, x)),
        ("alibi", LAYERS.AlibiBias(), on(np.ones((2, 2, 6, 6), "float32"))),
        ("packer", LAYERS.StartEndPacker(8, 1, 2), on([[1, 2, 3]])),
        ("segments", LAYERS.MultiSegmentPacker(8, 1, 2), on(([1, 2], [3]))),
        ("masks", LAYERS.MaskedLMMaskGenerator(12, 0.5, 3, 3), on(tokens)),
        ("swaps", LAYERS.RandomSwap(0.5, seed=3), on(tf.constant([["a", "b", "c"]]))),
    ):
        yield name, built(layer, use), use
    embedding = LAYERS.ReversibleEmbedding(12, 8)
    head = LAYERS.MaskedLMHead(token_embedding=embedding, activation="softmax")
    use = on(x, mask_positions=np.ones((2, 2), "int32"))
    embedding.build()
    yield "head with an embedding", built(head, use), use


@carried
def hub_metrics():
    def said(metric):
        metric.update_state([[1, 2]], np.full((1, 2, 4), 0.5, "float32"))
        return [np.asarray(metric.result()), *map(np.asarray, metric.variables)]

    metric = keras_hub.metrics.Perplexity(from_logits=True)
    metric.update_state([[1, 3]], np.eye(4, dtype="float32")[None, :2])
    yield "perplexity", metric, said


# --- KerasHub: tasks ----------------------------------------------------------------------------


def trained(x, y):
    """Return a function that trains a model on strings or arrays, and returns the outcome."""

    def use(model):
        keras.utils.set_random_seed(3)
        before = flat(model.predict(x, batch_size=2, verbose=0))
        history = model.fit(x, y, batch_size=2, shuffle=False, verbose=0).history
        names = [variable.path for variable in model.weights]
        variables = [*model.variables, *model.optimizer.variables]
        return [
            before,
            history,
            names,
            [np.asarray(value) for value in variables],
            generated(model),
        ]

    return use


def generated(model):
    if getattr(model, "preprocessor", None) is None or not hasattr(model, "generate"):
        return None
    return model.generate("a", max_length=6)


class OwnSampler(keras_hub.samplers.Sampler):
    """A user-defined sampler, which is no Keras object."""

    def __init__(self, favourite, **kwargs):
        super().__init__(**kwargs)
        self.favourite = favourite

    def get_next_token(self, probabilities):
        liked = keras.ops.one_hot(self.favourite, probabilities.shape[-1])
        return keras.ops.argmax(probabilities + liked, axis=-1)


def small(name):
    parameters = inspect.signature(getattr(MODELS, f"{name}Backbone").__init__).parameters
    given = {k: v for k, v in SMALL.items() if k in parameters}
    return getattr(MODELS, f"{name}Backbone")(**given)


def text_tasks():
    causal = MODELS.GPT2CausalLMPreprocessor(MODELS.GPT2Tokenizer(**BYTE_PAIRS), sequence_length=6)
    tokens = {name: np.ones((2, 6), "int32") for name in ("token_ids", "padding_mask")}
    yield "causal", MODELS.GPT2CausalLM(small("GPT2")), (tokens, tokens["token_ids"])
    for name, sampler in (
        ("sampler of ours", OwnSampler(7)),
        ("top k", keras_hub.samplers.TopKSampler(k=2, seed=5)),
    ):
        model = MODELS.GPT2CausalLM(small("GPT2"), causal)
        model.compile("adam", sampler=sampler)
        model.fit(TEXTS, batch_size=2, verbose=0)
        model.generate("a", max_length=6)
        yield name, model, (TEXTS, None)
    segments = {**tokens, "segment_ids": np.zeros((2, 6), "int32")}
    positions = {**segments, "mask_positions": np.ones((2, 2), "int32")}
    yield "masked", MODELS.BertMaskedLM(small("Bert")), (positions, np.ones((2, 2), "int32"))
    bert = MODELS.BertTextClassifierPreprocessor(MODELS.BertTokenizer(WORDS), sequence_length=6)
    classifier = MODELS.BertTextClassifier(small("Bert"), 2, bert, activation="softmax")
    yield "classifier", classifier, (TEXTS, [0, 1])
    lora = MODELS.BertTextClassifier(small("Bert"), 2)
    yield "classifier alone", lora, (segments, [0, 1])


@carried
def hub_tasks():
    for name, model, data in text_tasks():
        yield name, model, trained(*map(as_given, data))
    images = np.random.default_rng(0).random((2, 16, 16, 3)).astype("float32")
    backbone = MODELS.ResNetBackbone(**RESNET)
    yield "images", MODELS.ResNetImageClassifier(backbone, 2), trained(images, np.array([0, 1]))


def as_given(data):
    return np.array(data) if isinstance(data, list) and not isinstance(data[0], str) else data


# --- KerasTuner ---------------------------------------------------------------------------------

VECTORS = np.random.default_rng(0).random((8, 6)).astype("float32")
SUMS = VECTORS.sum(1, keepdims=True)


class OwnHyperModel(keras_tuner.HyperModel):
    def __init__(self, first):
        super().__init__()
        self.first = first

    def build(self, hp):
        hidden = keras.layers.Dense(hp.Int("units", 2, 4), "relu")
        model = keras.Sequential([keras.Input((6,)), self.first, hidden, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model


@carried
def tuner_hypermodels():
    def predictions(model):
        keras.utils.set_random_seed(4)
        return model.build(keras_tuner.HyperParameters()).predict(VECTORS, verbose=0)

    yield "with a layer", OwnHyperModel(keras.layers.Dense(3, name="first")), predictions


@carried
def tuner_searches():
    keras.utils.set_random_seed(5)
    folder = tempfile.mkdtemp()
    settings = {"objective": "loss", "max_trials": 2, "seed": 1, "directory": folder}
    tuner = keras_tuner.RandomSearch(OwnHyperModel(keras.layers.Dense(3, name="first")), **settings)
    tuner.search(VECTORS, SUMS, verbose=0)
    yield "best model", tuner.get_best_models(1)[0], trained(VECTORS, SUMS)
    yield "hyperparameters", tuner.get_best_hyperparameters(1)[0], lambda copied: copied.values


# --- HGQ2 ---------------------------------------------------------------------------------------


@carried
def hgq2_layers():
    def model(*layers):
        model = keras.Sequential([keras.Input((6,)), *layers])
        # After batches of two sizes, the graph of a model differs from the graph of its copy.
        model.compile("adam", "mse", run_eagerly=True)
        model.fit(VECTORS, SUMS, batch_size=2, verbose=0)
        return model

    use = trained(VECTORS, SUMS)
    with LayerConfigScope(enable_ebops=True, beta0=1e-5):
        yield "dense", model(QDense(4, activation="relu"), QBatchNormalization(), QDense(1)), use
    with QuantizerConfigScope(q_type="kif", overflow_mode="WRAP"):
        reshape, flatten = keras.layers.Reshape((6, 1, 1)), keras.layers.Flatten()
        yield "conv", model(reshape, QConv2D(2, (2, 1)), flatten, QDense(1)), use
    inputs = keras.Input((6,))
    hidden = keras.layers.Reshape((3, 2))(inputs)
    hidden = keras.layers.Flatten()(QMultiHeadAttention(1, 2)(hidden, hidden))
    attention = keras.Model(inputs, QDense(1)(hidden))
    attention.compile("adam", "mse", run_eagerly=True)
    yield "attention", attention, use


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # Bits are compared, and several threads would sum in any order.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    main()
