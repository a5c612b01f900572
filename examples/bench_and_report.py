"""Time a bundle beside ONNX Runtime, and write the results as JSON and as a report.

python examples/bench_and_report.py BUNDLE [MIN_TIME]
"""

from __future__ import annotations

import sys

from tvm_mobilenet import bench, report


def main(path: str, min_time: str = "3s") -> None:
    status = bench.main(
        [path, "--against", "onnxruntime", "--min-time", min_time, "--json", "results.json"]
    ) or report.main(["results.json", "-o", "report.md"])
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
