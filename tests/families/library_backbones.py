"""Arguments of KerasHub's backbones that need more than sizes, such as other backbones."""

from __future__ import annotations

import keras_hub

MODELS = keras_hub.models
IMAGE = (32, 32, 3)

RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "stackwise_num_filters": [64],
    "stackwise_num_blocks": [1],
    "stackwise_num_strides": [1],
    "block_type": "basic_block",
    "image_shape": (16, 16, 3),
}
_DEEP_RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [7],
    "block_type": "basic_block",
    "stackwise_num_filters": [64, 64, 64, 64],
    "stackwise_num_blocks": [1, 1, 1, 1],
    "stackwise_num_strides": [1, 2, 2, 2],
}
_VISION = {
    "patch_size": 8,
    "hidden_dim": 8,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 16,
    "image_shape": IMAGE,
}
_TEXT = {
    "vocabulary_size": 12,
    "embedding_dim": 8,
    "hidden_dim": 8,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 16,
    "max_sequence_length": 6,
}
_T5_GEMMA = {
    "vocabulary_size": 12,
    "encoder_layer_types": ["sliding_attention", "full_attention"],
    "decoder_layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 4,
    **{
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "hidden_dim": 8,
            "intermediate_dim": 16,
            "num_layers": 2,
            "head_dim": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
        }.items()
    },
}
_GEMMA = {
    "vocabulary_size": 12,
    "num_layers": 1,
    "num_query_heads": 2,
    "num_key_value_heads": 1,
    "hidden_dim": 8,
    "intermediate_dim": 16,
    "head_dim": 4,
    "image_size": 32,
}


def resnet(**more):
    return MODELS.ResNetBackbone(**_DEEP_RESNET, **more)


def mit():
    return {
        "layerwise_depths": [1, 1],
        "num_layers": 2,
        "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1],
        "max_drop_path_rate": 0.1,
        "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2],
        "hidden_dims": [8, 16],
        "image_shape": IMAGE,
    }


def towers(library, **more):
    vision = getattr(MODELS, f"{library}VisionEncoder")(**_VISION, name="vision")
    text = getattr(MODELS, f"{library}TextEncoder")(**_TEXT, name="text")
    return {"vision_encoder": vision, "text_encoder": text, **more}


def sam():
    from keras_hub.src.models.sam.sam_mask_decoder import SAMMaskDecoder
    from keras_hub.src.models.sam.sam_prompt_encoder import SAMPromptEncoder

    encoder = MODELS.ViTDetBackbone(
        hidden_size=8,
        num_layers=1,
        intermediate_dim=16,
        num_heads=2,
        global_attention_layer_indices=[0],
        patch_size=8,
        num_output_channels=8,
        window_size=2,
        image_shape=IMAGE,
    )
    prompts = SAMPromptEncoder(
        hidden_size=8, image_embedding_size=(4, 4), input_image_size=IMAGE[:2], mask_in_channels=4
    )
    masks = SAMMaskDecoder(
        num_layers=1,
        hidden_size=8,
        intermediate_dim=16,
        num_heads=2,
        embedding_dim=8,
        num_multimask_outputs=3,
        iou_head_depth=3,
        iou_head_hidden_dim=8,
    )
    return {"image_encoder": encoder, "prompt_encoder": prompts, "mask_decoder": masks}


def parseq():
    vit = {"patch_size": (8, 8), "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 16}
    encoder = MODELS.ViTBackbone(**vit, image_shape=IMAGE, use_class_token=False)
    return {
        "image_encoder": encoder,
        "vocabulary_size": 12,
        "max_label_length": 6,
        "decoder_hidden_dim": 8,
        "num_decoder_layers": 1,
        "num_decoder_heads": 2,
        "decoder_mlp_dim": 16,
    }


def depth_anything():
    encoder = MODELS.DINOV2Backbone(
        patch_size=8,
        num_layers=4,
        hidden_dim=8,
        num_heads=2,
        intermediate_dim=16,
        image_shape=(64, 64, 3),
        apply_layernorm=True,
    )
    return {
        "image_encoder": encoder,
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_dims": [8, 8, 8, 8],
        "fusion_hidden_dim": 8,
        "head_hidden_dim": 8,
        "head_in_index": -1,
        "feature_keys": ["stage1", "stage2", "stage3", "stage4"],
    }


def stable_diffusion():
    text = {**_TEXT, "vocabulary_size": 20, "max_sequence_length": 77}
    # Classes without a public name.
    from keras_hub.src.models.vae.vae_backbone import VAEBackbone

    return {
        "mmdit_patch_size": 2,
        "mmdit_hidden_dim": 16,
        "mmdit_num_layers": 1,
        "mmdit_num_heads": 2,
        "mmdit_position_size": 192,
        "mmdit_qk_norm": None,
        "mmdit_dual_attention_indices": None,
        "vae": VAEBackbone(4 * [32], 4 * [1], 4 * [32], 4 * [1], name="vae"),
        "clip_l": MODELS.CLIPTextEncoder(**text, intermediate_output_index=0, name="clip_l"),
        "clip_g": MODELS.CLIPTextEncoder(**text, intermediate_output_index=0, name="clip_g"),
        "image_shape": (64, 64, 3),
    }


def efficientnet():
    return {
        "stackwise_kernel_sizes": [3, 3],
        "stackwise_num_repeats": [1, 1],
        "stackwise_input_filters": [8, 8],
        "stackwise_output_filters": [8, 16],
        "stackwise_expansion_ratios": [1, 2],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.25],
        "stackwise_strides": [1, 2],
        "stackwise_block_types": ["fused", "unfused"],
        "width_coefficient": 1.0,
        "depth_coefficient": 1.0,
        "image_shape": IMAGE,
    }


# Functions that create the arguments, by name of the backbone.
ARGUMENTS = {
    "ResNetBackbone": lambda: RESNET,
    "XceptionBackbone": lambda: {
        "stackwise_conv_filters": [[8, 8], [8]],
        "stackwise_pooling": [True, False],
        "image_shape": IMAGE,
    },
    "CLIPBackbone": lambda: towers("CLIP", projection_dim=8),
    "MetaCLIP2Backbone": lambda: towers("MetaCLIP2", projection_dim=8),
    "SigLIPBackbone": lambda: towers("SigLIP"),
    "CSPNetBackbone": lambda: {
        "stem_filters": 8,
        "stem_kernel_size": 3,
        "stem_strides": 2,
        "stackwise_depth": [1, 1],
        "stackwise_strides": [1, 2],
        "stackwise_num_filters": [8, 16],
        "block_type": "dark_block",
        "stage_type": "csp",
        "image_shape": IMAGE,
        "bottle_ratio": [0.5, 1.0],
        "expand_ratio": [2.0, 2.0],
        "stem_padding": "same",
    },
    "DeepLabV3Backbone": lambda: {
        "image_encoder": resnet(image_shape=IMAGE),
        "spatial_pyramid_pooling_key": "P4",
        "upsampling_size": 4,
        "dilation_rates": [6, 12],
        "low_level_feature_key": "P2",
        "projection_filters": 8,
        "image_shape": IMAGE,
    },
    "DepthAnythingBackbone": depth_anything,
    "EfficientNetBackbone": efficientnet,
    "GPTNeoXBackbone": lambda: {
        "vocabulary_size": 12,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 16,
        "intermediate_dim": 16,
        "max_sequence_length": 6,
    },
    "Gemma3Backbone": lambda: {**_GEMMA, "use_sliding_window_attention": True},
    "Gemma4Backbone": lambda: {**_GEMMA, "use_sliding_window_attention": True},
    "HGNetV2Backbone": lambda: {
        "depths": [1, 1],
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "hidden_act": "relu",
        "stem_channels": [3, 8, 8],
        "use_learnable_affine_block": True,
        "image_shape": IMAGE,
        "stackwise_stage_filters": [[8, 8, 8, 1, 1, 3], [8, 8, 16, 1, 1, 3]],
        "apply_downsample": [False, True],
        "use_lightweight_conv_block": [False, True],
    },
    "MiTBackbone": mit,
    "SegFormerBackbone": lambda: {
        "image_encoder": MODELS.MiTBackbone(**mit()),
        "projection_filters": 8,
    },
    "MobileNetBackbone": lambda: {
        "stackwise_expansion": [[8], [8, 16]],
        "stackwise_num_blocks": [1, 2],
        "stackwise_num_filters": [[8], [8, 8]],
        "stackwise_kernel_size": [[3], [5, 3]],
        "stackwise_num_strides": [[2], [2, 1]],
        "stackwise_se_ratio": [[None], [0.25, None]],
        "stackwise_activation": [["relu"], ["hard_swish", "relu"]],
        "stackwise_padding": [[1], [2, 1]],
        "output_num_filters": 16,
        "depthwise_filters": 8,
        "depthwise_stride": 2,
        "depthwise_residual": False,
        "last_layer_filter": 16,
        "image_shape": IMAGE,
    },
    "MoonshineBackbone": lambda: {
        "vocabulary_size": 12,
        "filter_dim": 16,
        "encoder_num_layers": 1,
        "hidden_dim": 16,
        "decoder_num_layers": 1,
        "intermediate_dim": 16,
        "encoder_num_heads": 2,
        "decoder_num_heads": 2,
    },
    "PARSeqBackbone": parseq,
    "PaliGemmaBackbone": lambda: {
        **_GEMMA,
        "vit_patch_size": 8,
        "vit_num_heads": 2,
        "vit_hidden_dim": 8,
        "vit_num_layers": 1,
    },
    "RetinaNetBackbone": lambda: {
        "image_encoder": resnet(image_shape=(128, 128, 3)),
        "min_level": 3,
        "max_level": 5,
        "use_p5": False,
        "image_shape": (128, 128, 3),
    },
    "SAMBackbone": sam,
    **dict.fromkeys(
        ("SmolLM3Backbone", "SmolLMBackbone"),
        lambda: {
            "vocabulary_size": 12,
            "hidden_dim": 8,
            "intermediate_dim": 16,
            "num_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "rope_layer_enabled_list": [True, False],
            "layer_types": ["full_attention"] * 2,
            "mlp_bias": False,
            "rope_theta": 10000.0,
            "layer_norm_epsilon": 1e-5,
            "max_position_embeddings": 8,
            "partial_rotary_factor": 1.0,
        },
    ),
    "StableDiffusion3Backbone": stable_diffusion,
    "SwinTransformerBackbone": lambda: {
        "image_shape": IMAGE,
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [1, 2],
        "window_size": 4,
        "patch_size": 2,
    },
    "T5GemmaBackbone": lambda: _T5_GEMMA,
    "T5Gemma2Backbone": lambda: _T5_GEMMA,
    "VideoPrismBackbone": lambda: {
        "num_frames": 2,
        "patch_size": 8,
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "num_heads": 2,
        "num_spatial_layers": 1,
        "num_temporal_layers": 1,
        "num_auxiliary_layers": 1,
        "image_shape": IMAGE,
    },
}
