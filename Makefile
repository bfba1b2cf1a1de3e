# The commands of this project. `make demo` and `make test` need only Python (3.11 or newer) and pip.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready-for-make
ORACLES := $(BIN)/python tests/oracles/setup.py

.PHONY: demo test lint bench generated schema oracles caffe clean

demo: $(READY)  ## the main job, on a net that others trained and released
	@$(ORACLES) released
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: $(READY) oracles  ## every test
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY) oracles  ## tables of times; asserts nothing
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

generated: $(READY)  ## the checked-in nets, through the command line
	@for depth in 18 34 50 101 152; do $(BIN)/resnet-proto gen --depth $$depth --force; done

schema: $(READY)  ## caffe.proto -> its descriptor set
	$(BIN)/python -m grpc_tools.protoc -I resnet_proto/schema --descriptor_set_out resnet_proto/schema/caffe.binpb caffe.proto

oracles: $(READY)  ## what the tests compare with: the real Caffe, a released net, PyTorch
	@$(ORACLES) released caffe torch training

caffe: $(READY)  ## the real Caffe with training, compiled once, into a cache folder
	@PYTHON="$(CURDIR)/$(BIN)/python" bash examples/build-caffe.sh

clean:
	rm -rf .venv .oracles .mypy_cache .ruff_cache .pytest_cache .hypothesis build

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[test]'
	@touch $@
