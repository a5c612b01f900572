"""What the networks' own papers publish: accuracy on ImageNet, multiply-adds and parameters.

Nothing heavy is imported here, so that a report can show it where no engine is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

# ImageNet top-1 in per cent as published, by model, alpha, resolution: for V1 Tables 4 to 8
PAPER_TOP1: dict[tuple[str, float, int], float] = {
    ("mobilenet_v1", 1.0, 224): 70.6,
    ("mobilenet_v1", 0.75, 224): 68.4,
    ("mobilenet_v1", 0.5, 224): 63.7,
    ("mobilenet_v1", 0.25, 224): 50.6,
    ("mobilenet_v1", 1.0, 192): 69.1,
    ("mobilenet_v1", 1.0, 160): 67.2,
    ("mobilenet_v1", 1.0, 128): 64.4,
    ("mobilenet_v1", 0.5, 160): 60.2,
    ("mobilenet_v1_full_convolution", 1.0, 224): 71.7,
    ("mobilenet_v1_shallow", 1.0, 224): 65.3,
    ("mobilenet_v2", 1.0, 224): 72.0,
    ("mobilenet_v2", 1.4, 224): 74.7,
    ("mobilenet_v3_large", 1.0, 224): 75.2,
    ("mobilenet_v3_small", 1.0, 224): 67.4,
    ("mobilenetv4_conv_small", 1.0, 224): 73.8,
    ("efficientnet_b0", 1.0, 224): 77.1,
    ("mobileone_s0", 1.0, 224): 71.4,
    ("lcnet_100", 1.0, 224): 71.3,
    ("shufflenet_v2_x1_0", 1.0, 224): 69.4,
}


@dataclass(frozen=True)
class PaperCost:
    """Millions of multiply-adds and of parameters as published, for one image.

    ``note`` says what they count where that is not the network as it is built here.
    """

    multiply_adds: float
    parameters: float
    note: str = ""


# 3 to 6 per cent more than the layers with weights multiply
_LITE = "counted by the reference implementation"
PAPER_COST: dict[str, PaperCost] = {
    "mobilenet_v2": PaperCost(300, 3.4),  # Sandler et al., arXiv 1801.04381, Table 4
    "mobilenet_v3_large": PaperCost(219, 5.4),  # Howard et al., arXiv 1905.02244, Table 3
    "mobilenet_v3_small": PaperCost(56, 2.5),  # the same; 66 M is of the paper's first version
    "mobilenetv4_conv_small": PaperCost(200, 3.8),  # Qin et al., arXiv 2404.10518: 0.2 G
    "mnasnet1_0": PaperCost(315, 4.4),  # Tan et al., arXiv 1807.11626, B1: no squeeze-excite
    "efficientnet_b0": PaperCost(390, 5.3),  # Tan and Le, arXiv 1905.11946, Table 2: 0.39 G
    # github.com/tensorflow/tpu, models/official/efficientnet/lite
    "efficientnet_lite0": PaperCost(407, 4.7, _LITE),
    "efficientnet_lite1": PaperCost(631, 5.4, _LITE),
    "efficientnet_lite2": PaperCost(899, 6.1, _LITE),
    "efficientnet_lite3": PaperCost(1440, 8.2, _LITE),
    "efficientnet_lite4": PaperCost(2640, 13.0, _LITE),
    # Vasu et al., arXiv 2206.04040
    "mobileone_s0": PaperCost(275, 2.1, "with the branches merged for inference"),
    "lcnet_100": PaperCost(161, 3.0),  # Cui et al., arXiv 2109.15099
    "shufflenet_v2_x1_0": PaperCost(146, 2.3),  # Ma et al., arXiv 1807.11164, Table 8
    "resnet18": PaperCost(1800, 11.7),  # He et al., arXiv 1512.03385, Table 1; torchvision's page
}
# MobileNetV1's own paper, Tables 4 to 9, by model, alpha, resolution
PAPER_V1_COST: dict[tuple[str, float, int], PaperCost] = {
    ("mobilenet_v1", 1.0, 224): PaperCost(569, 4.2),
    ("mobilenet_v1", 0.75, 224): PaperCost(325, 2.6),
    ("mobilenet_v1", 0.5, 224): PaperCost(149, 1.3),
    ("mobilenet_v1", 0.25, 224): PaperCost(41, 0.5),
    ("mobilenet_v1", 1.0, 192): PaperCost(418, 4.2),
    ("mobilenet_v1", 1.0, 160): PaperCost(290, 4.2),
    ("mobilenet_v1", 1.0, 128): PaperCost(186, 4.2),
    ("mobilenet_v1", 0.5, 160): PaperCost(76, 1.32),
    ("mobilenet_v1_full_convolution", 1.0, 224): PaperCost(4866, 29.3, "without its classifier"),
    ("mobilenet_v1_shallow", 1.0, 224): PaperCost(307, 2.9),
}
PAPER_SSD = PaperCost(1200, 6.8)  # MobileNetV1's paper, Table 13; printed as 1.2 billion
