"""--max-loss: the layers that hurt stay in float, and no more of them than it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import conv, mobile, node, samples_of
from support.float_networks import network as network_of

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.quantization.calibration import Calibration
from tvm_mobilenet.quantization.quantize import How, quantize
from tvm_mobilenet.quantization.samples import Samples


@pytest.fixture(scope="module")
def network() -> onnx.ModelProto:
    """Weights of channels that one scale a tensor serves badly."""
    return mobile(np.random.default_rng(8), spread=1.0)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    x = np.random.default_rng(2).standard_normal((24, 8, 8, 8)).astype(np.float32)
    return samples_of(x, tmp_path)


def int8_layers(model: onnx.ModelProto) -> int:
    makers = {one.output[0]: one for one in model.graph.node}
    return sum(
        one.op_type in ("Conv", "Gemm") and one.input[1] in makers for one in model.graph.node
    )


def test_layers_stay_in_float_until_the_loss_is_within_the_bound(
    network: onnx.ModelProto, samples: Samples
) -> None:
    free = quantize(network, samples, How()).report
    assert free.summary.float_layers == () and free.agreement.top1 is None
    kept = []
    for share in (1.01, 0.6, 0.2):
        bound = free.agreement.error * share
        found = quantize(network, samples, How(max_loss=bound))
        assert found.report.agreement.loss <= bound
        names = found.report.summary.float_layers
        assert int8_layers(found.model) == 6 - len(names)
        kept.append(len(names))
        # one fewer was not enough
        assert len(set(names)) == len(names)
    assert kept[0] == 0 < kept[1] <= kept[2] <= 6 and kept[2] > kept[0]


def test_no_loss_at_all_leaves_everything_in_float(
    network: onnx.ModelProto, samples: Samples
) -> None:
    found = quantize(network, samples, How(max_loss=0.0))
    assert len(found.report.summary.float_layers) == 6
    assert found.report.agreement.error < 1e-6
    assert not any(one.op_type == "QuantizeLinear" for one in found.model.graph.node)


def test_for_classes_the_loss_is_the_share_of_other_answers(
    network: onnx.ModelProto, samples: Samples
) -> None:
    found = quantize(network, samples, How(), classes=0).report.agreement
    assert found.samples == 6 and found.top1 is not None
    assert found.loss == 1 - found.top1 and found.loss * 6 == pytest.approx(round(found.loss * 6))
    # as many as differ anyway: nothing has to be done for it
    quiet = quantize(network, samples, How(max_loss=found.loss), classes=0)
    assert quiet.report.summary.float_layers == ()


def test_a_layer_that_hurts_goes_alone(tmp_path: Path) -> None:
    """What biases after it took back of its errors is not there any more then."""
    rng = np.random.default_rng(1)
    sizes = (10 ** rng.uniform(-6, 0, 16))[:, None, None, None]
    weights = {"w0": conv(rng, 16, 8) * sizes, "w1": conv(rng, 16, 1, 3) / sizes}
    nodes = [
        node("Conv", ["x", "w0"], ["c0"]),
        node("Relu", ["c0"], ["a0"]),
        node("Conv", ["a0", "w1"], ["c1"], group=16, pads=[1] * 4),
        node("Relu", ["c1"], ["a1"]),
    ]
    for place in range(2, 6):
        weights[f"w{place}"] = conv(rng, 16, 16)
        nodes += [
            node("Conv", [f"a{place - 1}", f"w{place}"], [f"c{place}"]),
            node("Relu", [f"c{place}"], ["y" if place == 5 else f"a{place}"]),
        ]
    x = rng.standard_normal((24, 8, 8, 8)).astype(np.float32)
    hostile, samples = network_of(nodes, weights), samples_of(x, tmp_path)
    free = quantize(hostile, samples, How(equalize=False)).report.agreement
    found = quantize(hostile, samples, How(max_loss=0.06, equalize=False)).report
    assert free.error > 0.1 and found.agreement.error <= 0.06, (free, found.agreement)
    assert found.summary.float_layers == ("c1",)
    assert found.summary.bias_corrected


@pytest.mark.parametrize("loss", [-0.1, 1.0, float("nan")])
def test_a_loss_that_is_no_share(loss: float) -> None:
    with pytest.raises(BadInput, match="expected a share of 0 to 1"):
        Calibration(Path("x.npy"), max_loss=loss)


def test_a_method_that_there_is_not() -> None:
    with pytest.raises(BadInput, match="expected minmax, percentile, mse, got 'kl'"):
        Calibration(Path("x.npy"), "kl")  # type: ignore[arg-type]
