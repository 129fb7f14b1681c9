# make demo    everything on generated data: install, datasets, pre-training, fine-tuning, tables (CPU, minutes)
# make demo-full   the same with every method of the paper        make test-full   its tests
# make test    install and run every test
# make test-kill      every training job killed twenty times        make test-install   the pins, installed and run
# make container      build/Dockerfile, an image with the conda environment
# make install-slurm   the environment for a Slurm cluster, .venv-slurm        make test-slurm   its test on a Slurm that it starts (docs/scaling.md)
# make tools   programs that some tests drive, on Debian: Chromium for the page, LaTeX for the tables
# make lint    ruff, snakefmt, snakemake --lint        make lock    renew uv.lock, envs/*.yaml and the schema

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
UV := .uv/bin/uv
# byte-code written at install halves the start-up of several hundred short jobs
export UV_COMPILE_BYTECODE := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: demo demo-full test test-full test-kill test-install test-slurm container tools lint lock schema install install-slurm clean-demo

install: .venv/.installed

# uv comes into a private venv, so that this also works where the system's pip is locked
$(UV):
	python3 -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.installed: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --quiet
	touch $@

# apart from .venv: where no controller answers, Snakemake starts nine seconds later with the plugin in place
install-slurm: .venv-slurm/.installed

.venv-slurm/.installed: pyproject.toml uv.lock | $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-slurm $(UV) sync --frozen --quiet --group slurm
	touch $@

demo: install
	snakemake build/demo/data/demo.json --workflow-profile profiles/demo --quiet rules
	snakemake tables figures page --workflow-profile profiles/demo
	@cat build/demo/results/tables/table1.md

demo-full: install
	snakemake build/demo/data/demo.json --workflow-profile profiles/demo-full --quiet rules
	snakemake tables figures page --workflow-profile profiles/demo-full
	@cat build/demo/results/tables/table?.md

tools:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium texlive-latex-recommended

test: install lint
	pytest

test-full: install
	pytest -m full

test-kill: install
	pytest -m kill

test-install: install
	pytest -m install

container: install
	mkdir -p build
	snakemake --containerize > build/Dockerfile

test-slurm: export PATH := $(CURDIR)/.venv-slurm/bin:$(PATH)
test-slurm: install-slurm
	pytest -m slurm tests/test_slurm.py

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint

lock: $(UV)
	$(UV) lock
	$(MAKE) install
	.venv/bin/python envs/export.py $(UV)

schema: install
	cd workflow/scripts && python -m refers.config.schema
