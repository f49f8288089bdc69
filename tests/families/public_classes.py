"""Every public class of Keras: built, used, shipped, and compared in two processes.

``python public_classes.py write FOLDER`` goes through the public namespace and pickles instances;
``python public_classes.py read FOLDER`` then compares the files, in a process that never called
`install`. The word of a class is empty if everything is the same bit for bit, else the error.

A class is named by its public name without ``keras.``. A class that is new in Keras fails until it
is carried (most need at most an entry in `ARGUMENTS` and `DATA`) or has an entry with its reason in
`PLAIN` or `NOT_CARRIED`.
"""

from __future__ import annotations

import codecs
import inspect
import json
import marshal
import os
import pickle
import random
import re
import shutil
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, optimizers
from packaging.version import Version

import probes
from keras_reduce.families.keras3 import kinds

Description = dict[str, np.ndarray]

# --- data -----------------------------------------------------------------------------------

rng = np.random.default_rng(0)
VECTORS = rng.normal(size=(4, 6)).astype("float32")
TARGETS = rng.normal(size=(4, 1)).astype("float32")
SERIES = rng.normal(size=(2, 8, 4)).astype("float32")
IMAGES = (rng.random((2, 8, 8, 3)) * 255).astype("float32")
VOLUMES = rng.normal(size=(2, 5, 5, 5, 2)).astype("float32")
SIGNAL = rng.normal(size=(2, 64)).astype("float32")
TOKENS = (rng.random((4, 3)) * 5).astype("int32")
WORDS = tf.constant([["cat"], ["dog"], ["owl"], ["cat"]])
SENTENCES = tf.constant(["the cat sat", "a dog ran", "the owl sat", "cats and dogs"])
RECORDS = {"size": tf.constant([0.5, 1.5, 2.5, 4.0]), "animal": WORDS[:, 0]}
ONE_HOT = np.eye(3, dtype="float32")[[0, 1, 2, 1]]
CLASSES = np.array([0, 1, 2, 1])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.25, 0.5, 0.25], [0.1, 0.8, 0.1]], "float32"
)
STATE = np.full((4, 3), 0.5, "float32")
BOXES = {
    "images": IMAGES,
    "bounding_boxes": {
        "boxes": np.array([[[1, 1, 4, 4], [2, 2, 6, 6]]] * 2, "float32"),
        "labels": np.array([[1, 2], [2, 1]], "float32"),
    },
}
LABELLED = {"images": IMAGES, "labels": np.eye(2, dtype="float32")}


# --- arguments of constructors ----------------------------------------------------------------


def small_model(name: str | None = None) -> keras.Model:
    hidden = layers.Dense(3, activation="relu", name="hidden")
    return keras.Sequential([keras.Input((6,)), hidden, layers.Dense(1, name="last")], name=name)


def functional() -> dict[str, Any]:
    inputs = keras.Input((6,))
    return {"inputs": inputs, "outputs": layers.Dense(1)(layers.Dropout(0.5)(inputs))}


def exported() -> dict[str, Any]:
    small_model().export("exported", verbose=False)
    return {"filepath": "exported"}


def symbolic_result() -> Any:
    return layers.Dense(2)(keras.Input((6,)))


def note_down(epoch: int, logs: dict[str, float]) -> None:
    with Path("notes.txt").open("a") as file:
        file.write(f"{epoch} {logs['loss']!r}\n")


# Arguments of constructors that need some, or should be tried with others than the defaults. A list
# has one set for each instance; a function creates arguments that are objects.
ARGUMENTS: dict[str, Any] = {
    "Function": functional,
    "KerasTensor": [
        {"shape": (None, 3), "dtype": "int32", "name": "given"},
        {"shape": (2, None), "sparse": True},
    ],
    "Model": functional,
    "Sequential": lambda: {
        "layers": [keras.Input((6,)), layers.Dense(2), layers.Dropout(0.5), layers.Dense(1)]
    },
    "Variable": [
        {"initializer": VECTORS, "name": "given", "trainable": False},
        {"initializer": CLASSES, "dtype": "int32", "aggregation": "sum"},
    ],
    "DTypePolicy": {"name": "mixed_bfloat16"},
    "FloatDTypePolicy": {"name": "float16"},
    "InputSpec": {"shape": (None, 3), "dtype": "float32", "axes": {-1: 3}},
    "callbacks.BackupAndRestore": {"backup_dir": "backup", "delete_checkpoint": False},
    "callbacks.CSVLogger": {"filename": "log.csv", "append": True},
    "callbacks.CallbackList": lambda: {
        "callbacks": [keras.callbacks.EarlyStopping("loss", patience=1)],
        "add_history": True,
        "model": compiled_model(),
    },
    "callbacks.EarlyStopping": {"monitor": "loss", "patience": 1, "restore_best_weights": True},
    "callbacks.LambdaCallback": [
        {"on_epoch_end": note_down},
        {"on_epoch_end": lambda epoch, logs: note_down(-epoch, logs)},
    ],
    "callbacks.LearningRateScheduler": {"schedule": lambda epoch, rate: rate * 0.5**epoch},
    "callbacks.ModelCheckpoint": [
        {"filepath": "best.keras", "monitor": "loss", "save_best_only": True},
        {"filepath": "{epoch}.weights.h5", "save_weights_only": True},
    ],
    "callbacks.ReduceLROnPlateau": {"monitor": "loss", "patience": 1, "min_delta": 10.0},
    # No server listens there: the callback warns, and goes on.
    "callbacks.RemoteMonitor": {"root": "http://localhost:9"},
    "callbacks.SwapEMAWeights": {"swap_on_epoch": True},
    "callbacks.TensorBoard": {"log_dir": "logs", "histogram_freq": 1, "update_freq": "batch"},
    "constraints.MaxNorm": {"max_value": 0.5, "axis": 1},
    "constraints.MinMaxNorm": {"min_value": 0.25, "max_value": 0.5, "rate": 0.5},
    "constraints.UnitNorm": {"axis": 1},
    "distillation.Distiller": lambda: {
        "teacher": small_model("teacher"),
        "student": small_model("student"),
        "distillation_losses": [
            keras.distillation.LogitsDistillation(temperature=2.0),
            keras.distillation.FeatureDistillation("mae", "hidden", "hidden"),
        ],
        "distillation_loss_weights": [0.25, 0.75],
        "student_loss_weight": 0.25,
    },
    "distillation.FeatureDistillation": {"loss": "mae", "teacher_layer_name": "hidden"},
    "distillation.LogitsDistillation": {"temperature": 2.0},
    "dtype_policies.AWQDTypePolicy": {"mode": "awq/4/64", "source_name": "float32"},
    "dtype_policies.DTypePolicyMap": lambda: {
        "default_policy": keras.DTypePolicy("float32"),
        "policy_map": {"encoder/.*": keras.DTypePolicy("mixed_bfloat16")},
    },
    "dtype_policies.GPTQDTypePolicy": {"mode": "gptq/4/64", "source_name": "float32"},
    "dtype_policies.Int4DTypePolicy": {"mode": "int4/64", "source_name": "float32"},
    "dtype_policies.QuantizedDTypePolicy": {"mode": "int8", "source_name": "mixed_bfloat16"},
    "dtype_policies.QuantizedFloat8DTypePolicy": {
        "mode": "float8",
        "source_name": "float32",
        "amax_history_length": 12,
    },
    "initializers.Constant": [{"value": 0.5}, {"value": VECTORS[0, :3]}],
    "initializers.GlorotUniform": [{}, {"seed": 3}],
    "initializers.Identity": {"gain": 2.0},
    "initializers.Orthogonal": {"gain": 2.0},
    "initializers.RandomNormal": [
        {"mean": 1.0, "stddev": 0.5},
        lambda: {"seed": keras.random.SeedGenerator(5)},
    ],
    "initializers.RandomUniform": {"minval": -1.0, "maxval": 2.0},
    "initializers.STFT": [{"side": "imag", "window": "hamming"}, {"window": np.arange(16.0)}],
    "initializers.TruncatedNormal": {"mean": 1.0, "stddev": 0.5},
    "initializers.VarianceScaling": {"scale": 2.0, "mode": "fan_avg", "distribution": "uniform"},
    "layers.Activation": [{"activation": "tanh"}, {"activation": lambda value: ops.tanh(value)}],
    "layers.ActivityRegularization": {"l1": 0.1, "l2": 0.2},
    "layers.AdaptiveAveragePooling1D": {"output_size": 2},
    "layers.AdaptiveAveragePooling2D": {"output_size": 2},
    "layers.AdaptiveAveragePooling3D": {"output_size": 2},
    "layers.AdaptiveMaxPooling1D": {"output_size": 2},
    "layers.AdaptiveMaxPooling2D": {"output_size": 2},
    "layers.AdaptiveMaxPooling3D": {"output_size": 2},
    "layers.AdditiveAttention": {"dropout": 0.5},
    "layers.AlphaDropout": {"rate": 0.5},
    "layers.Attention": {"use_scale": True, "dropout": 0.5},
    "layers.AveragePooling1D": {"pool_size": 2},
    "layers.AveragePooling2D": {"pool_size": 2},
    "layers.AveragePooling3D": {"pool_size": 2},
    "layers.BatchNormalization": [{}, {"renorm": True}],
    "layers.Bidirectional": [
        lambda: {"layer": layers.LSTM(3, return_sequences=True, dropout=0.5)},
        lambda: {
            "layer": layers.GRU(2),
            "backward_layer": layers.SimpleRNN(2, go_backwards=True),
            "merge_mode": "sum",
        },
    ],
    "layers.CategoryEncoding": {"num_tokens": 5, "output_mode": "count"},
    "layers.CenterCrop": {"height": 4, "width": 5},
    "layers.ContrastLimitedAdaptiveHistogramEqualization": {"tile_grid_size": (2, 2)},
    "layers.Conv1D": {"filters": 2, "kernel_size": 3, "padding": "causal"},
    "layers.Conv1DTranspose": {"filters": 2, "kernel_size": 3},
    "layers.Conv2D": {"filters": 2, "kernel_size": 3, "kernel_constraint": "unit_norm"},
    "layers.Conv2DTranspose": {"filters": 2, "kernel_size": 3, "strides": 2},
    "layers.Conv3D": {"filters": 2, "kernel_size": 3},
    "layers.Conv3DTranspose": {"filters": 2, "kernel_size": 3},
    "layers.ConvLSTM1D": {"filters": 2, "kernel_size": 3, "dropout": 0.25},
    "layers.ConvLSTM2D": {"filters": 2, "kernel_size": 3, "return_state": True},
    "layers.ConvLSTM3D": {"filters": 1, "kernel_size": 3},
    "layers.CutMix": {"factor": 0.5},
    "layers.Dense": [
        {"units": 3, "kernel_regularizer": "l1l2", "bias_initializer": "random_normal"},
        {"units": 2, "dtype": "int8_from_float32"},
        {"units": 2, "dtype": "float8_from_float32"},
        {"units": 2, "lora_rank": 1},
    ],
    "layers.DepthwiseConv1D": {"kernel_size": 3},
    "layers.DepthwiseConv2D": {"kernel_size": 3, "depth_multiplier": 2},
    "layers.Discretization": [{"num_bins": 3}, {"bin_boundaries": [0.0, 0.5]}],
    "layers.Dot": {"axes": 1, "normalize": True},
    "layers.Dropout": [{"rate": 0.5}, {"rate": 0.5, "seed": 7, "noise_shape": (None, 1)}],
    "layers.EinsumDense": [
        {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c"},
        {"equation": "ab,bc->ac", "output_shape": 4, "dtype": "int8_from_float32"},
    ],
    "layers.Embedding": [
        {"input_dim": 5, "output_dim": 2},
        {"input_dim": 5, "output_dim": 2, "dtype": "int8_from_float32"},
    ],
    "layers.GRU": {"units": 2, "return_sequences": True, "dropout": 0.25},
    "layers.GRUCell": {"units": 3, "recurrent_dropout": 0.25},
    "layers.GaussianDropout": {"rate": 0.5},
    "layers.GaussianNoise": {"stddev": 0.5},
    "layers.GroupNormalization": {"groups": 2},
    "layers.GroupQueryAttention": {
        "head_dim": 2,
        "num_query_heads": 2,
        "num_key_value_heads": 1,
        "dropout": 0.25,
    },
    "layers.HashedCrossing": {"num_bins": 5},
    "layers.Hashing": {"num_bins": 5, "salt": 133},
    "layers.InputLayer": {"shape": (6,), "name": "given"},
    "layers.IntegerLookup": [
        {},
        {"vocabulary": [1, 2, 4], "output_mode": "multi_hot"},
        {"output_mode": "tf_idf"},
    ],
    "layers.LSTM": [
        {"units": 2, "recurrent_dropout": 0.25, "return_state": True},
        {"units": 2, "stateful": True},
    ],
    "layers.LSTMCell": {"units": 3, "dropout": 0.25},
    "layers.Lambda": {"function": lambda value: value * 2.0},
    "layers.MaxNumBoundingBoxes": {"max_number": 3, "bounding_box_format": "xyxy"},
    "layers.MelSpectrogram": {"fft_length": 16, "num_mel_bins": 4, "sampling_rate": 100},
    "layers.MultiHeadAttention": {"num_heads": 2, "key_dim": 3, "dropout": 0.25},
    "layers.Normalization": [{}, {"mean": 1.0, "variance": 4.0}, {"invert": True, "axis": None}],
    "layers.PReLU": {"alpha_initializer": "random_normal"},
    "layers.Permute": {"dims": (2, 1)},
    "layers.Pipeline": lambda: {"layers": [layers.RandomFlip(), layers.Rescaling(0.5)]},
    "layers.RNN": [
        lambda: {"cell": layers.GRUCell(2, dropout=0.25)},
        lambda: {"cell": [layers.LSTMCell(2), layers.SimpleRNNCell(3)], "return_state": True},
    ],
    "layers.RandAugment": {"num_ops": 3, "factor": 0.9},
    "layers.RandomBrightness": {"factor": 0.5},
    "layers.RandomColorDegeneration": {"factor": 0.5},
    "layers.RandomColorJitter": {
        "brightness_factor": 0.5,
        "contrast_factor": 0.5,
        "saturation_factor": 0.5,
        "hue_factor": 0.5,
    },
    "layers.RandomContrast": {"factor": 0.5},
    "layers.RandomCrop": {"height": 4, "width": 5},
    "layers.RandomElasticTransform": {"factor": 1.0, "scale": 0.5},
    "layers.RandomErasing": {"factor": 1.0},
    "layers.RandomGaussianBlur": {"factor": 1.0},
    "layers.RandomHue": {"factor": 0.5},
    "layers.RandomPerspective": {"factor": 1.0, "scale": 0.5},
    "layers.RandomPosterization": {"factor": 4},
    "layers.RandomRotation": {"factor": 0.5},
    "layers.RandomSaturation": {"factor": 0.5},
    "layers.RandomSharpness": {"factor": 0.5},
    "layers.RandomShear": {"x_factor": 0.5, "y_factor": 0.5},
    "layers.RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
    "layers.RandomZoom": {"height_factor": 0.5},
    "layers.ReLU": {"max_value": 1.0, "negative_slope": 0.1, "threshold": 0.2},
    "layers.RepeatVector": {"n": 2},
    "layers.Rescaling": [{"scale": 0.5, "offset": 1.0}, {"scale": [0.5] * 6}],
    "layers.Reshape": {"target_shape": (3, -1)},
    "layers.Resizing": {"height": 4, "width": 5},
    "layers.ReversibleEmbedding": {"input_dim": 5, "output_dim": 2, "tie_weights": False},
    "layers.STFTSpectrogram": {
        "mode": "real",
        "frame_length": 16,
        "frame_step": 8,
        "fft_length": 16,
    },
    "layers.SeparableConv1D": {"filters": 2, "kernel_size": 3},
    "layers.SeparableConv2D": {"filters": 2, "kernel_size": 3},
    "layers.SimpleRNN": {"units": 2, "go_backwards": True, "unroll": True},
    "layers.SimpleRNNCell": {"units": 3, "dropout": 0.25},
    "layers.SpatialDropout1D": {"rate": 0.5},
    "layers.SpatialDropout2D": {"rate": 0.5},
    "layers.SpatialDropout3D": {"rate": 0.5},
    "layers.SpectralNormalization": lambda: {"layer": layers.Dense(3), "power_iterations": 2},
    "layers.StackedRNNCells": lambda: {"cells": [layers.GRUCell(3), layers.SimpleRNNCell(2)]},
    "layers.StringLookup": [
        {},
        {"vocabulary": ["owl", "cat"], "mask_token": "", "num_oov_indices": 2},
        {"vocabulary": ["owl", "cat"], "output_mode": "tf_idf", "idf_weights": [0.5, 0.25]},
    ],
    "layers.TFSMLayer": exported,
    "layers.TextVectorization": [
        {},
        {"output_mode": "tf_idf", "ngrams": 2, "split": "character"},
        {"standardize": tf.strings.upper, "output_sequence_length": 4},
    ],
    "layers.TimeDistributed": lambda: {"layer": layers.Dense(3)},
    "layers.UnitNormalization": {"axis": 1},
    "losses.BinaryCrossentropy": {"from_logits": True, "label_smoothing": 0.1},
    "losses.CategoricalCrossentropy": {"label_smoothing": 0.1, "axis": 0},
    "losses.CosineSimilarity": {"axis": 0, "reduction": "sum"},
    "losses.Huber": {"delta": 0.25},
    "losses.MeanSquaredError": {"reduction": "none", "dtype": "float64", "name": "given"},
    "losses.SparseCategoricalCrossentropy": {"ignore_class": 1},
    "losses.Tversky": {"alpha": 0.25, "beta": 0.75},
    "metrics.AUC": [{"num_thresholds": 5}, {"num_thresholds": 5, "multi_label": True}],
    "metrics.BinaryIoU": {"target_class_ids": [0], "threshold": 0.25},
    "metrics.F1Score": {"average": "macro", "threshold": 0.25},
    "metrics.FBetaScore": {"beta": 2.0},
    "metrics.FalseNegatives": {"thresholds": [0.25, 0.5]},
    "metrics.IoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "metrics.MeanIoU": {"num_classes": 3, "ignore_class": 1},
    "metrics.MeanMetricWrapper": [
        {"fn": keras.losses.mean_absolute_error, "name": "given"},
        {"fn": lambda y_true, y_pred, power: (y_true - y_pred) ** power, "power": 2},
    ],
    "metrics.MeanSquaredError": {"dtype": "float64"},
    "metrics.OneHotIoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "metrics.OneHotMeanIoU": {"num_classes": 3},
    "metrics.Precision": [{"top_k": 2}, {"class_id": 1, "thresholds": 0.25}],
    "metrics.PrecisionAtRecall": {"recall": 0.5, "num_thresholds": 5},
    "metrics.RecallAtPrecision": {"precision": 0.5, "num_thresholds": 5},
    "metrics.SensitivityAtSpecificity": {"specificity": 0.5, "num_thresholds": 5},
    "metrics.SparseTopKCategoricalAccuracy": {"k": 2},
    "metrics.SpecificityAtSensitivity": {"sensitivity": 0.5, "num_thresholds": 5},
    "metrics.TopKCategoricalAccuracy": {"k": 2},
    "optimizers.Adam": [
        {"amsgrad": True, "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
        {"gradient_accumulation_steps": 3},
        lambda: {"learning_rate": optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
        {"clipnorm": 0.5, "weight_decay": 0.25, "loss_scale_factor": 4.0},
    ],
    "optimizers.LossScaleOptimizer": lambda: {
        "inner_optimizer": optimizers.SGD(0.1, momentum=0.5),
        "initial_scale": 4.0,
        "dynamic_growth_steps": 3,
    },
    "optimizers.MultiOptimizer": lambda: {
        "optimizer_map": keras.optimizers.OptimizerMap(
            optimizers.Adam(0.1), {"first.*": optimizers.SGD(0.1, momentum=0.5)}
        ),
    },
    "optimizers.OptimizerMap": lambda: {
        "default_optimizer": optimizers.Adam(0.1),
        "optimizer_map": {"first.*": optimizers.SGD(0.1, momentum=0.5)},
    },
    "optimizers.RMSprop": {"momentum": 0.5, "centered": True},
    "optimizers.SGD": [
        {"learning_rate": 0.1, "momentum": 0.5, "nesterov": True},
        {"gradient_accumulation_steps": 2, "use_ema": True},
    ],
    "optimizers.schedules.CosineDecay": {
        "initial_learning_rate": 0.5,
        "decay_steps": 10,
        "warmup_target": 1.0,
        "warmup_steps": 3,
    },
    "optimizers.schedules.CosineDecayRestarts": {
        "initial_learning_rate": 0.5,
        "first_decay_steps": 3,
    },
    "optimizers.schedules.ExponentialDecay": {
        "initial_learning_rate": 0.5,
        "decay_steps": 3,
        "decay_rate": 0.5,
        "staircase": True,
    },
    "optimizers.schedules.InverseTimeDecay": {
        "initial_learning_rate": 0.5,
        "decay_steps": 3,
        "decay_rate": 0.5,
    },
    "optimizers.schedules.PiecewiseConstantDecay": {
        "boundaries": [2, 5],
        "values": [1.0, 0.5, 0.25],
    },
    "optimizers.schedules.PolynomialDecay": {
        "initial_learning_rate": 0.5,
        "decay_steps": 5,
        "cycle": True,
    },
    "quantizers.AWQConfig": {"dataset": ["a", "b"], "tokenizer": note_down, "group_size": 2},
    "quantizers.AbsMaxQuantizer": {"axis": -1, "value_range": (-7, 7)},
    "quantizers.GPTQConfig": {"dataset": ["a", "b"], "tokenizer": note_down, "group_size": 2},
    "quantizers.Int4QuantizationConfig": [{}, {"block_size": 64}],
    "random.SeedGenerator": [{}, {"seed": 5, "name": "given"}],
    "regularizers.L1": {"l1": 0.5},
    "regularizers.L1L2": {"l1": 0.5, "l2": 0.25},
    "regularizers.L2": {"l2": 0.5},
    "regularizers.OrthogonalRegularizer": {"factor": 0.5, "mode": "columns"},
    "utils.Config": {"rate": 0.5, "units": [1, 2]},
    "utils.FeatureSpace": lambda: {
        "features": {
            "size": keras.utils.FeatureSpace.float_discretized(num_bins=3),
            "animal": keras.utils.FeatureSpace.string_categorical(num_oov_indices=1),
        },
        "crosses": [("size", "animal")],
        "crossing_dim": 4,
    },
    "utils.Progbar": {"target": 5, "stateful_metrics": ["loss"], "verbose": 0},
    "wrappers.SKLearnClassifier": lambda: {
        "model": compiled_model(3, "softmax"),
        "fit_kwargs": {"shuffle": False},
    },
    "wrappers.SKLearnRegressor": lambda: {
        "model": compiled_model(),
        "fit_kwargs": {"shuffle": False},
    },
    "wrappers.SKLearnTransformer": lambda: {
        "model": compiled_model(),
        "fit_kwargs": {"shuffle": False},
    },
}

# Call arguments, unless the name of the class implies them. A tuple has several arguments; None
# means that the object can't be called.
DATA: dict[str, Any] = {
    "initializers.STFT": ((16, 1, 9),),
    "layers.AdditiveAttention": [SERIES, SERIES + 1],
    "layers.Attention": [SERIES, SERIES + 1],
    "layers.Bidirectional": SERIES,
    "layers.CategoryEncoding": TOKENS,
    "layers.ConvLSTM1D": IMAGES[:, :3],
    "layers.ConvLSTM2D": np.stack([IMAGES, IMAGES / 2], axis=1),
    "layers.ConvLSTM3D": np.stack([VOLUMES, VOLUMES / 2], axis=1),
    "layers.CutMix": LABELLED,
    "layers.Embedding": TOKENS,
    "layers.GRU": SERIES,
    "layers.GRUCell": (VECTORS, [STATE]),
    "layers.GroupQueryAttention": (SERIES, SERIES + 1),
    "layers.HashedCrossing": [WORDS, tf.constant(TOKENS[:, :1])],
    "layers.Hashing": WORDS,
    "layers.InputLayer": None,
    "layers.IntegerLookup": TOKENS,
    "layers.LSTM": SERIES,
    "layers.LSTMCell": (VECTORS, [STATE, STATE]),
    "layers.Masking": SERIES,
    "layers.MaxNumBoundingBoxes": BOXES,
    "layers.MelSpectrogram": SIGNAL,
    "layers.MixUp": LABELLED,
    "layers.MultiHeadAttention": (SERIES, SERIES + 1),
    "layers.Permute": SERIES,
    "layers.Pipeline": IMAGES,
    "layers.RNN": SERIES,
    "layers.ReversibleEmbedding": TOKENS,
    "layers.STFTSpectrogram": SIGNAL[..., None],
    "layers.SimpleRNN": SERIES,
    "layers.SimpleRNNCell": (VECTORS, [STATE]),
    "layers.StackedRNNCells": (VECTORS, [STATE, STATE[:, :2]]),
    "layers.StringLookup": WORDS,
    "layers.TextVectorization": SENTENCES,
    "layers.TimeDistributed": SERIES,
    "losses.CategoricalGeneralizedCrossEntropy": (CLASSES, PROBABILITIES),
    "losses.CTC": (TOKENS[:, :2] + 1, rng.normal(size=(4, 5, 7)).astype("float32")),
    "losses.Circle": (CLASSES, PROBABILITIES),
    "metrics.BinaryIoU": (ONE_HOT[:, 0], PROBABILITIES[:, 0]),
    "metrics.IoU": (CLASSES, CLASSES[::-1].copy()),
    "metrics.Mean": (VECTORS,),
    "metrics.MeanIoU": (CLASSES, CLASSES[::-1].copy()),
    "metrics.Sum": (VECTORS,),
    "regularizers.OrthogonalRegularizer": VECTORS[:, :4],
    "utils.FeatureSpace": RECORDS,
}


def data(name: str) -> Any:
    """Return the call arguments for an object of the class `name`."""
    cls = PUBLIC[name]
    by_rank = {"1D": SERIES, "2D": IMAGES, "3D": VOLUMES}
    if name in DATA:
        return DATA[name]
    if issubclass(cls, keras.initializers.Initializer):
        return ((4, 3),)
    if issubclass(cls, (keras.Loss, keras.Metric)):
        return (CLASSES if cls.__name__.startswith("Sparse") else ONE_HOT), PROBABILITIES
    if ".merging." in cls.__module__:
        return [VECTORS, VECTORS + 1]
    if ".image_preprocessing." in cls.__module__:
        return IMAGES
    rank = re.search("[123]D", cls.__name__)
    return by_rank[rank[0]] if rank else VECTORS


# --- exceptions -------------------------------------------------------------------------------

# Classes without a row in `keras_reduce.reducers.TABLE`: pickle carries them by itself.
PLAIN = {
    "InputSpec": "attributes that are numbers, strings and tuples",
    "distillation.FeatureDistillation": "attributes, the loss among them by its own row",
    "distillation.LogitsDistillation": "attributes, the loss among them by its own row",
    "optimizers.OptimizerMap": "a mapping; the optimizers in it go by their own row",
    "quantizers.AWQConfig": "attributes that are the user's data",
    "quantizers.AbsMaxQuantizer": "attributes that are numbers and strings",
    "quantizers.Float8QuantizationConfig": "attributes that are quantizers",
    "quantizers.GPTQConfig": "attributes that are the user's data",
    "quantizers.Int4QuantizationConfig": "attributes that are quantizers and numbers",
    "quantizers.Int8QuantizationConfig": "attributes that are quantizers",
    "utils.Config": "a dictionary of user data",
    "utils.Progbar": "attributes that are numbers and lists",
    "wrappers.SKLearnClassifier": "an estimator; the models in it go by their own row",
    "wrappers.SKLearnRegressor": "an estimator; the models in it go by their own row",
    "wrappers.SKLearnTransformer": "an estimator; the models in it go by their own row",
}

_ABSTRACT = "abstract: nothing is of this very class, and user-defined subclasses are in the zoo"
_CONTEXT = "a context of the running program, not an object with a value"
_DEVICES = "names devices of one machine"
_OTHER_BACKEND = "works on other backends only"

NOT_CARRIED = {
    **dict.fromkeys(
        (
            "Initializer",
            "Layer",
            "Loss",
            "Metric",
            "Operation",
            "Optimizer",
            "Quantizer",
            "Regularizer",
            "constraints.Constraint",
            "distillation.DistillationLoss",
            "layers.Wrapper",
            "optimizers.schedules.LearningRateSchedule",
            "quantizers.QuantizationConfig",
            "utils.PyDataset",
        ),
        _ABSTRACT,
    ),
    **dict.fromkeys(
        (
            "RematScope",
            "StatelessScope",
            "SymbolicScope",
            "name_scope",
            "utils.CustomObjectScope",
        ),
        _CONTEXT,
    ),
    **dict.fromkeys(
        (
            "distribution.DataParallel",
            "distribution.DeviceMesh",
            "distribution.LayoutMap",
            "distribution.ModelParallel",
            "distribution.TensorLayout",
        ),
        _DEVICES,
    ),
    **dict.fromkeys(("layers.FlaxLayer", "layers.JaxLayer"), _OTHER_BACKEND),
    "layers.TorchModuleWrapper": _OTHER_BACKEND,
    "callbacks.OrbaxCheckpoint": "a handle on a running checkpoint manager of Orbax's",
    "export.ExportArchive": "a handle on functions that are being exported",
    "optimizers.legacy.SGD": "a stub whose constructor raises",
    "saving.KerasFileEditor": "a handle on an open file",
    "tree.MAP_TO_NONE": "a mark that is used as a class, never instantiated",
}

# Classes of the tables above that are new in a version of Keras, and instances, by their number,
# whose arguments are.
SINCE = {
    "callbacks.OrbaxCheckpoint": "3.14",
    "dtype_policies.AWQDTypePolicy": "3.14",
    "dtype_policies.Int4DTypePolicy": "3.14",
    "layers.BatchNormalization 1": "3.14",
    "layers.ContrastLimitedAdaptiveHistogramEqualization": "3.14",
    "optimizers.MultiOptimizer": "3.15",
    "optimizers.OptimizerMap": "3.15",
    "optimizers.ScheduleFreeAdamW": "3.14",
    "quantizers.AWQConfig": "3.14",
    "quantizers.Int4QuantizationConfig 1": "3.14",
}

# Attributes that `keras_reduce.reducers.reduce_callback` documents as not carried: handles that are
# opened again.
HANDLES = {
    "_batch_trace_context",
    "_executor",
    "_in_begin_end_block_count",
    "_prev_summary_state",
    "_summary_module",
    "_writers",
    "csv_file",
    "writer",
}

# Attributes with times, which differ between two processes.
CLOCKS = {
    "_batch_start_time",
    "_epoch_start_time",
    "_last_update",
    "_start",
    "_time_after_first_step",
    "_time_at_epoch_start",
    "_train_accumulated_time",
}


def coverage() -> dict[str, str]:
    """Return the errors in the tables, by name of the class."""
    words = {}
    for name, cls in PUBLIC.items():
        ways = [has_kind(cls) and name not in NOT_CARRIED, name in PLAIN, name in NOT_CARRIED]
        if not any(ways):
            words[name] = (
                "is public in Keras and nothing says how it travels: add a row to "
                "keras_reduce.reducers.TABLE and its base to kinds.bases(), or an entry with its "
                "reason to PLAIN (pickle carries it) or NOT_CARRIED"
            )
        elif sum(ways) > 1:
            words[name] = "is in two of PLAIN, NOT_CARRIED and keras_reduce.reducers.TABLE"
    for name in {*ARGUMENTS, *DATA, *PLAIN, *NOT_CARRIED, *SINCE}:
        is_public = name.partition(" ")[0] in PUBLIC
        if not is_public and is_there(name):
            words[name] = "names no public class of Keras: correct the entry, or take it out"
        elif name in PUBLIC and not is_there(name):
            words[name] = f"is there before Keras {SINCE[name]}: correct SINCE"
    return words


def is_there(instance: str) -> bool:
    """Tell whether, by `SINCE`, this version of Keras has the class and accepts the arguments."""
    return Version(keras.version()) >= Version(SINCE.get(instance, "0"))


def has_kind(cls: type) -> bool:
    return issubclass(cls, kinds.public_classes())


def public_classes() -> dict[str, type]:
    """Return all public classes by their shortest public names that end with the class name."""
    names: dict[type, list[str]] = {}
    visited = set()

    def visit(module: types.ModuleType, path: tuple[str, ...]) -> None:
        visited.add(module)
        for name, value in vars(module).items():
            if name.startswith("_"):
                continue
            if inspect.isclass(value) and value.__module__.startswith("keras."):
                names.setdefault(value, []).append(".".join((*path, name)))
            elif not isinstance(value, types.ModuleType) or value in visited or name == "src":
                continue
            elif value.__name__ == f"{module.__name__}.{name}":  # Not imported from elsewhere.
                visit(value, (*path, name))

    visit(keras, ())
    by_best_name = {_best(cls, aliases): cls for cls, aliases in names.items()}
    return dict(sorted(by_best_name.items()))


def _best(cls: type, aliases: list[str]) -> str:
    return min(
        aliases,
        key=lambda name: (
            not f".{name}".endswith(f".{cls.__name__}"),
            name.count("."),
            len(name),
            name,
        ),
    )


PUBLIC = public_classes()


# --- description of an object: its visible state, as arrays -----------------------------------


def described(path: str, value: Any, seen: tuple[int, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield a name and an array for everything in `value`."""
    if id(value) in seen:
        yield path, _text("met before")
        return
    seen = (*seen, id(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from described(f"{path}/{key}", item, seen)
    elif isinstance(value, (list, tuple)):
        yield f"{path}/len", np.asarray(len(value))
        for position, item in enumerate(value):
            yield from described(f"{path}/{position}", item, seen)
    elif isinstance(value, (set, frozenset)):
        yield path, _text(sorted(map(repr, value)))
    elif isinstance(value, keras.Variable):
        yield f"{path}/value", _array(value)
        yield f"{path}/variable", _text([value.dtype, value.trainable])
        # Default names contain a counter of the process.
        place = re.sub(r"\b(seed_generator|variable)_\d+", r"\1", value.path)
        yield f"{path}/place", _text(place)
    elif keras.ops.is_tensor(value) or isinstance(value, (np.ndarray, np.generic)):
        yield path, _array(value)
    elif isinstance(value, _NAMED):
        yield path, _text(f"{value.__module__}.{value.__qualname__}")
    elif isinstance(value, types.ModuleType):
        yield path, _text(value.__name__)
    elif isinstance(value, types.MethodType):
        yield f"{path}/name", _text(value.__name__)
        yield from described(f"{path}/self", value.__self__, seen)
    elif value is None or isinstance(value, (bool, int, float, complex, str, bytes, tf.DType)):
        yield path, _text(repr(value))
    else:
        yield from _described_object(path, value, seen)


_NAMED = (types.FunctionType, types.BuiltinFunctionType, type)


def _described_object(path: str, obj: Any, seen: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    yield f"{path}/type", _text(f"{type(obj).__module__}.{type(obj).__qualname__}")
    if hasattr(obj, "get_config"):
        yield from described(f"{path}/config", _config(obj))
    if isinstance(obj, keras.KerasTensor):
        yield f"{path}/tensor", _text([obj.name, obj.shape, obj.dtype, obj.sparse])
    elif isinstance(obj, (keras.Layer, keras.Metric, keras.Optimizer)):
        # An optimizer does not carry the variables that it was built for.
        names = ("trainable", "compiled", "stop_training", "optimizer", "metrics")
        names += () if isinstance(obj, keras.Optimizer) else ("built",)
        parts = {name: getattr(obj, name) for name in names if name in dir(obj)}
        yield from described(f"{path}/variables", list(obj.variables), seen)
        yield from described(path, parts, seen)
    elif isinstance(obj, keras.Function):
        yield from described(f"{path}/inputs", obj.inputs, seen)
        yield from described(f"{path}/outputs", obj.outputs, seen)
    else:
        attributes = {k: v for k, v in vars(obj).items() if k not in HANDLES}
        yield from described(path, attributes, seen)


def _config(obj: Any) -> Any:
    """Return the config of `obj` as JSON has it, with lists for tuples."""
    try:
        config = obj.get_config()
    except NotImplementedError:  # The class has no config.
        return None
    return json.loads(json.dumps(_with_code(config), default=_spelled))


def _with_code(config: Any) -> Any:
    """Return `config` with the code of functions as text.

    Keras marshals the code, and the result depends on identities of constants.
    """
    if isinstance(config, dict):
        return {key: _with_code(item) for key, item in config.items()}
    if isinstance(config, (list, tuple)):
        return list(map(_with_code, config))
    if isinstance(config, str) and config.endswith("\n"):
        code = marshal.loads(codecs.decode(config.encode(), "base64"))
        return [code.co_name, code.co_code.hex(), repr(code.co_consts), code.co_names]
    return config


def _spelled(value: Any) -> Any:
    """Return a part of a config as JSON types."""
    return {path: array.tolist() for path, array in described("", value)}


def _text(value: Any) -> np.ndarray:
    """Return a text as an array, for `probes.difference`."""
    return np.array(str(value), dtype=object)


def _array(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value))


# --- trials of each kind ----------------------------------------------------------------------


class Trial(NamedTuple):
    """Functions for a kind: one before pickling, one for its outputs, one for further use."""

    use: Callable[[Any, Any], object]
    ask: Callable[[Any, Any], object]
    go_on: Callable[[Any, Any], object]


def called(obj: Any, inputs: Any, **options: Any) -> Any:
    if inputs is None:
        return None
    return obj(*inputs, **options) if isinstance(inputs, tuple) else obj(inputs, **options)


def nothing(obj: Any, inputs: Any) -> None:
    """Do nothing: only the attributes of the object are compared."""


def use_layer(layer: Any, inputs: Any) -> None:
    if isinstance(layer, keras.utils.FeatureSpace):
        layer.adapt(tf.data.Dataset.from_tensor_slices(inputs).batch(2))
    elif learns(layer):
        layer.adapt(inputs)
    called(layer, inputs)


def learns(layer: Any) -> bool:
    """Tell whether a layer must be adapted to data, since its constructor has got no values."""
    config = layer.get_config()
    given = config.get("mean"), config.get("vocabulary")
    is_given = any(value is not None for value in given) or config.get("num_bins", 1) is None
    return hasattr(layer, "adapt") and not is_given


def train_layer(layer: Any, inputs: Any) -> Any:
    if isinstance(layer, keras.utils.FeatureSpace):  # It accepts only its inputs.
        return called(layer, inputs)
    if hasattr(layer, "update_state") and learns(layer):
        layer.update_state(inputs)
        layer.finalize_state()
    return [called(layer, inputs, training=True) for _ in range(2)]


def use_metric(metric: Any, inputs: Any) -> Any:
    metric.update_state(*inputs)
    return metric.result()


def step(optimizer: Any, inputs: Any, times: int = 1) -> Any:
    # A copy accepts new variables of the same shapes as those that the original was built for.
    variables = optimizer._trainable_variables
    if not all(isinstance(variable, keras.Variable) for variable in variables) or not variables:
        variables = [
            keras.Variable(np.ones((3, 2), "float32"), name=n) for n in ("first", "second")
        ]
    for variable in variables:
        variable.assign(np.ones((3, 2)))
    for time in range(times):
        gradients = [np.full((3, 2), value, "float32") for value in (0.5, time)]
        optimizer.apply(list(map(ops.convert_to_tensor, gradients)), variables)
    return [ops.convert_to_numpy(variable) for variable in variables]


def compiled_model(units: int = 1, activation: str | None = None) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(units, activation, kernel_initializer="ones")]
    )
    loss = "categorical_crossentropy" if activation else "mse"
    model.compile(optimizers.SGD(0.1, use_ema=True), loss, run_eagerly=True)
    return model


def fit(model: Any, callbacks: Any = None) -> Any:
    options = {"epochs": 2, "batch_size": 2, "shuffle": False, "verbose": 2}
    return model.fit(VECTORS, TARGETS, callbacks=callbacks, **options).history


def use_callback(callback: Any, inputs: Any) -> None:
    is_list = isinstance(callback, keras.callbacks.CallbackList)
    fit(callback._model if is_list else compiled_model(), callback if is_list else [callback])


def train_with_callback(callback: Any, inputs: Any) -> Any:
    is_list = isinstance(callback, keras.callbacks.CallbackList)
    model = callback._model if is_list else callback.model
    history = fit(model, callback if is_list else [callback])
    return history, list(model.variables), files()


def files() -> dict[str, Any]:
    """Return names of files in the work folder, without times, and contents of text files."""
    paths = sorted(path for path in Path().rglob("*") if path.is_file())
    return {
        "names": sorted("events" if "tfevents" in path.name else str(path) for path in paths),
        **{str(path): path.read_bytes() for path in paths if path.suffix in (".csv", ".txt")},
    }


def use_model(model: Any, inputs: Any) -> None:
    model.compile(optimizers.SGD(0.1, momentum=0.5), loss="mse", run_eagerly=True)
    fit(model)


def use_estimator(estimator: Any, inputs: Any) -> None:
    is_classifier = isinstance(estimator, keras.wrappers.SKLearnClassifier)
    estimator.fit(VECTORS, CLASSES if is_classifier else TARGETS)


def ask_estimator(estimator: Any, inputs: Any) -> Any:
    return [getattr(estimator, n)(inputs) for n in ("predict", "transform") if n in dir(estimator)]


def use_variable(variable: Any, inputs: Any) -> None:
    variable.assign(variable + 1)


def try_schedule(schedule: Any, inputs: Any) -> Any:
    return [schedule(step) for step in (0, 3, 7)]


def call(obj: Any, inputs: Any) -> Any:
    return called(obj, inputs)


TRIALS = {
    "model": Trial(use_model, call, lambda model, inputs: fit(model)),
    "layer": Trial(use_layer, call, train_layer),
    "function": Trial(nothing, call, call),
    "optimizer": Trial(lambda obj, inputs: step(obj, inputs, 2), nothing, step),
    "metric": Trial(use_metric, lambda obj, inputs: obj.result(), use_metric),
    "loss": Trial(nothing, call, call),
    "initializer": Trial(call, call, call),
    "regularizer": Trial(nothing, call, call),
    "constraint": Trial(nothing, call, call),
    "schedule": Trial(nothing, try_schedule, try_schedule),
    "policy": Trial(nothing, lambda obj, inputs: (obj.compute_dtype, obj.variable_dtype), nothing),
    "callback": Trial(use_callback, nothing, train_with_callback),
    "seed_generator": Trial(lambda obj, inputs: obj.next(), nothing, lambda obj, _: obj.next()),
    "variable": Trial(use_variable, nothing, use_variable),
    "tensor": Trial(nothing, nothing, nothing),
}
ESTIMATOR = Trial(use_estimator, ask_estimator, use_estimator)
PLAINLY = Trial(nothing, nothing, nothing)


def trial(obj: Any) -> Trial:
    kind = kinds.kind(obj)
    if kind is not None:
        return TRIALS[kind]
    return ESTIMATOR if hasattr(obj, "get_params") else PLAINLY


def outcome(name: str, obj: Any) -> Description:
    """Return the description of `obj`, its outputs, and its state after further use."""
    inputs = data(name)
    # Some layers for images draw from Python's global generator.
    random.seed(0)
    description = dict(described("is", obj))
    description.update(described("answers", trial(obj).ask(obj, inputs)))
    later = dict(described("gives", trial(obj).go_on(obj, inputs)))
    later.update(described("becomes", obj))
    description.update((p, array) for p, array in later.items() if not CLOCKS & set(p.split("/")))
    # Only the first difference is reported: numbers come first, as they say more than names.
    return dict(sorted(description.items(), key=lambda item: item[0].endswith("/place")))


# --- writing and reading ----------------------------------------------------------------------


def instances() -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Yield the name of each instance, the name of its class, and a function that builds it."""
    for name, cls in PUBLIC.items():
        if name not in NOT_CARRIED and (has_kind(cls) or name in PLAIN):
            given = ARGUMENTS.get(name, {})
            for number, arguments in enumerate(given if isinstance(given, list) else [given]):
                instance = f"{name} {number}" if number else name
                if is_there(instance):
                    yield instance, name, _builder(cls, arguments)


def _builder(cls: type, arguments: Any) -> Callable[[], Any]:
    return lambda: cls(**(arguments() if callable(arguments) else arguments))


def write(folder: Path) -> dict[str, str]:
    import keras_reduce

    keras_reduce.install()
    words = {}
    for number, (instance, name, build) in enumerate(instances()):
        keras.utils.set_random_seed(number)
        work = folder / instance
        work.mkdir()
        os.chdir(work)
        words[instance] = attempt(_sent, folder, instance, name, build)
    return words


def _sent(folder: Path, instance: str, name: str, build: Callable[[], Any]) -> str:
    try:
        obj = build()
        trial(obj).use(obj, data(name))
    except Exception as error:
        raise RuntimeError(
            f"Can't build or use a {name}: give it an entry in ARGUMENTS or DATA, or one in "
            f"NOT_CARRIED with the reason why it need not be tried"
        ) from error
    text = pickle.dumps(obj)
    again, digest = pickle.dumps(obj), joblib.hash(obj)
    (folder / f"{instance}.pickle").write_bytes(text)
    # The reader needs the files as they are now.
    shutil.copytree(folder / instance, folder / f"{instance}.sent")
    # The original comes last: even a call changes some.
    (folder / f"{instance}.expected").write_bytes(pickle.dumps((name, outcome(name, obj))))
    if again != text:
        return "a second pickle has other bytes"
    if joblib.hash(pickle.loads(text)) != digest:
        return "joblib.hash of what came back is another"
    return ""


def read(folder: Path) -> dict[str, str]:
    words = {}
    for path in sorted(folder.glob("*.expected")):
        instance = path.name.removesuffix(".expected")
        os.chdir(folder / f"{instance}.sent")
        words[instance] = attempt(_arrived, path, folder / f"{instance}.pickle")
    return words


def _arrived(expectation: Path, file: Path) -> str:
    name, expected = pickle.loads(expectation.read_bytes())
    obj = pickle.loads(file.read_bytes())
    if not isinstance(obj, PUBLIC[name]):
        return f"came back as a {type(obj).__module__}.{type(obj).__qualname__}"
    return probes.difference(expected, outcome(name, obj))


def attempt(function: Callable[..., str], *arguments: Any) -> str:
    """Return the word that `function` returns, or its error."""
    try:
        return function(*arguments)
    except Exception:
        return traceback.format_exc(limit=-4)


def main(role: str, folder: str) -> None:
    target = Path(folder).resolve()
    results = {"words": {"write": write, "read": read}[role](target)}
    if role == "write":
        results["coverage"] = coverage()
    (target / f"{role}.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
