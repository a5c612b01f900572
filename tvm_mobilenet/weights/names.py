"""What other programs call the layers of a network, in the order in which ours go through them."""

from __future__ import annotations

from collections.abc import Iterator

from tvm_mobilenet.models import efficientnet, mnasnet, mobilenet_v2, mobilenet_v3, stages
from tvm_mobilenet.models.network_config import NetworkConfig
from tvm_mobilenet.models.stages import MobileNetConfig


def keras_v1(config: MobileNetConfig) -> Iterator[str]:
    """``keras.applications.MobileNet``."""
    yield from ("conv1", "conv1_bn")
    for number, _ in enumerate(stages.blocks(config), start=1):
        for layer in (f"conv_dw_{number}", f"conv_pw_{number}"):
            yield from (layer, f"{layer}_bn")
    yield "conv_preds"


def keras_v2(config: NetworkConfig) -> Iterator[str]:
    """``keras.applications.MobileNetV2``."""
    del config
    yield from ("Conv1", "bn_Conv1")
    number = 0
    for stage in mobilenet_v2.STAGES:
        for _ in range(stage.repeats):
            prefix = f"block_{number}" if number else "expanded_conv"
            for part in ("expand", "depthwise", "project"):
                if part != "expand" or stage.expansion > 1:
                    yield from (f"{prefix}_{part}", f"{prefix}_{part}_BN")
            number += 1
    yield from ("Conv_1", "Conv_1_bn", "predictions")


def slim_v1(config: MobileNetConfig) -> Iterator[str]:
    """TF-Slim's ``mobilenet_v1``."""
    layers = ["Conv2d_0"]
    for number, _ in enumerate(stages.blocks(config), start=1):
        layers += [f"Conv2d_{number}_depthwise", f"Conv2d_{number}_pointwise"]
    for layer in layers:
        yield from (f"MobilenetV1/{layer}", f"MobilenetV1/{layer}/BatchNorm")
    yield "MobilenetV1/Logits/Conv2d_1c_1x1"


def slim_v2(config: NetworkConfig) -> Iterator[str]:
    """TF-Slim's ``mobilenet_v2``."""
    del config
    layers = ["Conv"]
    number = 0
    for stage in mobilenet_v2.STAGES:
        for _ in range(stage.repeats):
            prefix = f"expanded_conv_{number}" if number else "expanded_conv"
            parts = ("expand", "depthwise", "project")[0 if stage.expansion > 1 else 1 :]
            layers += [f"{prefix}/{part}" for part in parts]
            number += 1
    for layer in (*layers, "Conv_1"):
        yield from (f"MobilenetV2/{layer}", f"MobilenetV2/{layer}/BatchNorm")
    yield "MobilenetV2/Logits/Conv2d_1c_1x1"


def timm_v1(config: MobileNetConfig) -> Iterator[str]:
    """timm's ``mobilenetv1_100``: a block that halves the image begins a stage."""
    yield from ("conv_stem", "bn1")
    stage = repeat = -1
    for block in stages.blocks(config):
        stage, repeat = (stage + 1, 0) if block.stride > 1 or stage < 0 else (stage, repeat + 1)
        yield from _timm_separable(f"blocks.{stage}.{repeat}")
    yield "classifier"


def timm_v2(config: NetworkConfig) -> Iterator[str]:
    """timm's ``mobilenetv2_100``."""
    del config
    yield from ("conv_stem", "bn1")
    for number, stage in enumerate(mobilenet_v2.STAGES):
        for repeat in range(stage.repeats):
            prefix = f"blocks.{number}.{repeat}"
            if stage.expansion > 1:
                yield from _timm_inverted(prefix, squeeze=False)
            else:
                yield from _timm_separable(prefix)
    yield from ("conv_head", "bn2", "classifier")


def timm_v3(config: NetworkConfig) -> Iterator[str]:
    """timm's ``mobilenetv3_large_100`` and ``mobilenetv3_small_100``."""
    blocks, _ = mobilenet_v3.TABLES[config.model]
    yield from ("conv_stem", "bn1")
    stage, repeat, channels = -1, 0, 0
    for number, block in enumerate(blocks):
        # where the channels change; the first block is a stage of its own
        stage, repeat = (stage + 1, 0) if block.channels != channels else (stage, repeat + 1)
        channels = block.channels
        prefix = f"blocks.{stage}.{repeat}"
        if number == 0:  # without an expansion, as its channels are those of the stem
            yield from (f"{prefix}.conv_dw", f"{prefix}.bn1")
            if block.squeeze:
                yield from (f"{prefix}.se.conv_reduce", f"{prefix}.se.conv_expand")
            yield from (f"{prefix}.conv_pw", f"{prefix}.bn2")
        else:
            yield from _timm_inverted(prefix, squeeze=block.squeeze)
    yield from (f"blocks.{stage + 1}.0.conv", f"blocks.{stage + 1}.0.bn1")
    yield from ("conv_head", "classifier")


def timm_mnasnet(config: NetworkConfig) -> Iterator[str]:
    """timm's ``mnasnet_100``."""
    del config
    yield from ("conv_stem", "bn1", *_timm_separable("blocks.0.0"))
    for number, stage in enumerate(mnasnet.STAGES, start=1):
        for repeat in range(stage.repeats):
            yield from _timm_inverted(f"blocks.{number}.{repeat}", squeeze=False)
    yield from ("conv_head", "bn2", "classifier")


def torchvision_b0(config: NetworkConfig) -> Iterator[str]:
    """torchvision's ``efficientnet_b0``: the members of a block are numbered."""
    del config
    yield from ("features.0.0", "features.0.1")
    for number, stage in enumerate(efficientnet.STAGES, start=1):
        for repeat in range(stage.repeats):
            members = iter(range(4))
            prefix = f"features.{number}.{repeat}.block"
            for _ in ("expand", "depthwise")[0 if stage.expansion > 1 else 1 :]:
                member = f"{prefix}.{next(members)}"
                yield from (f"{member}.0", f"{member}.1")
            gate, last = f"{prefix}.{next(members)}", f"{prefix}.{next(members)}"
            yield from (f"{gate}.fc1", f"{gate}.fc2", f"{last}.0", f"{last}.1")
    after = len(efficientnet.STAGES) + 1
    yield from (f"features.{after}.0", f"features.{after}.1", "classifier.1")


def _timm_separable(prefix: str) -> Iterator[str]:
    yield from (f"{prefix}.{part}" for part in ("conv_dw", "bn1", "conv_pw", "bn2"))


def _timm_inverted(prefix: str, *, squeeze: bool) -> Iterator[str]:
    gates = ("se.conv_reduce", "se.conv_expand") if squeeze else ()
    parts = ("conv_pw", "bn1", "conv_dw", "bn2", *gates, "conv_pwl", "bn3")
    yield from (f"{prefix}.{part}" for part in parts)
