# The commands of this project. `make demo` and `make test` need only Python (3.11 or newer) and pip.
#
# What they fetch, all from the Python package index: into .venv this package's own requirements and
# those of its extra `test`; into .oracles what the tests compare with, see CONTRIBUTING.md.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready-for-make
KEPT := resnet-18 resnet-34 resnet-50 resnet-101 resnet-152 resnet-50-1by2 \
	cifar-resnet-20 cifar-preact-resnet-164
ORACLES := $(BIN)/python tests/oracles/setup.py

.PHONY: demo demo-released test lint docs pictures bench fuzz generated schema vendor oracles caffe clean help

demo: $(READY)  ## the main job, on a small net trained in Caffe that lies in examples/
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

demo-released: $(READY)  ## the same on a net that others trained and released
	@$(ORACLES) released
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo-released.sh

test: $(READY) oracles  ## every test
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## the documentation as a site, build/site/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/site

pictures: $(READY)  ## those of the documentation, docs/pictures; Graphviz draws the nets
	$(BIN)/python docs/pictures.py

bench: $(READY) oracles  ## tables of times; asserts nothing
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

fuzz: $(READY) oracles  ## random layers, nets, texts against the real Caffe; TYPE=, N=, SEED=
	@$(BIN)/python tests/oracles/fuzz.py $(TYPE:%=--type %) $(N:%=--n %) $(SEED:%=--seed %)

generated: $(READY)  ## the checked-in nets, through the command line
	@for preset in $(KEPT); do $(BIN)/resnet-proto gen --preset $$preset --force || exit 1; done
	@$(BIN)/python tests/pin_presets.py > tests/presets.sha256

schema: $(READY)  ## caffe.proto -> its descriptor set
	$(BIN)/python -m grpc_tools.protoc -I resnet_proto/schema --descriptor_set_out resnet_proto/schema/caffe.binpb caffe.proto

vendor:  ## what the page of `view` is drawn with, from npm, at pinned versions
	@resnet_proto/report/page/vendor.sh

oracles: $(READY)  ## what the tests compare with: the real Caffe, a released net, OpenCV 5, MNN ..., PyTorch
	@$(ORACLES) released caffe opencv5 mnn ncnn nncase torch training

caffe: $(READY)  ## the real Caffe with training, compiled once, into a cache folder
	@PYTHON="$(CURDIR)/$(BIN)/python" bash examples/build-caffe.sh

clean:  ## away with all that was fetched or built
	rm -rf .venv .oracles .mypy_cache .ruff_cache .pytest_cache .hypothesis build

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target what; do printf '  make %-14s %s\n' "$$target" "$$what"; done

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv (once)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[test]'
	@touch $@
