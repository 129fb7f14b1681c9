# make demo    everything on generated data: install, datasets, pre-training, fine-tuning, tables (CPU, minutes)
# make real    a study on 5,840 real radiographs below the folder DATA (CPU, an hour)
# make demo-full   the same with every method of the paper        make test-full   its tests
# make test    install and run every test
# make install   the packages of uv.lock into .venv; CUDA=12: with torch for CUDA 12, as by itself where the driver is older than 580
# make test-kill      every training job killed twenty times        make test-install   the pins, installed and run
# make fuzz    damaged files for every reader, ten minutes on one core: SECONDS=60 SEED=1 for another time and other damage
# make container      the image `refers` of envs/Dockerfile, by docker; CUDA=12 as above (docs/artifact.md)
# make install-slurm   the environment for a Slurm cluster, .venv-slurm        make test-slurm   its test on a Slurm that it starts (docs/scaling.md)
# make tools   programs that some tests drive, on Debian: Chromium for the page, LaTeX for the tables
# make lint    ruff, snakefmt, ty (types), snakemake --lint        make lock    renew uv.lock, envs/*.yaml and the schema

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
# an installed uv, or else one in a virtual environment of its own, so that a system whose pip is locked does as well
UV := $(if $(shell uv --version 2> /dev/null),uv,.uv/bin/uv)
# the first Python that uv.lock covers and that can make virtual environments (Debian packages that apart)
CAN_BOOTSTRAP := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON = $(firstword $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; \
	do if $$each -c '$(CAN_BOOTSTRAP)' 2> /dev/null; then echo $$each; fi; done))
# CUDA of the torch to install: CUDA=12 or 13 on the command line; else 12 where nvidia-smi shows a driver older than 580, which
# CUDA 13 needs; where it shows none, what is installed already
DRIVER := $(shell found=$$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null) && found=$${found%%.*} \
	&& [[ $$found =~ ^[0-9]+$$ ]] && echo $$found)
OLD := $(shell [[ -n "$(DRIVER)" && "$(DRIVER)" -lt 580 ]] && echo 12)
ifneq ($(origin CUDA),command line)
CUDA := $(or $(OLD),$(if $(DRIVER),,$(if $(wildcard .venv/.installed-cuda12),12)))
NOTE := $(if $(OLD),@echo "driver $(DRIVER) is older than 580: torch for CUDA 12 is installed")
endif
$(if $(filter-out 12 13,$(CUDA)),$(error CUDA=$(CUDA): the lock has torch for CUDA 12 and 13; choose one of the two))
# group of the lock, and the end of the name of what says that it is installed
GROUP := $(if $(CUDA),--group cuda$(CUDA))
INSTALLED := .installed$(if $(filter 12,$(CUDA)),-cuda12)
# byte-code written at install halves the start-up of several hundred short jobs
export UV_COMPILE_BYTECODE := 1
export PATH := $(CURDIR)/.venv/bin:$(PATH)
$(if $(findstring :,$(CURDIR)),$(error move the project to a folder without ":" in its path, which would end an entry of PATH))

.PHONY: demo demo-full real test test-full test-kill test-install test-slurm container tools lint lock schema fuzz install install-slurm

install: .venv/$(INSTALLED)

.uv/bin/uv:
	$(if $(PYTHON),,$(error Python 3.11 to 3.14 with venv not found: install it (Debian, Ubuntu: apt-get install python3-venv) \
		or uv (https://docs.astral.sh/uv)))
	rm -rf .uv
	{ $(PYTHON) -m venv .uv && .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; } || { rm -rf .uv; exit 1; }

.venv/$(INSTALLED): pyproject.toml uv.lock | $(filter-out uv,$(UV))
	$(NOTE)
	$(UV) sync --frozen --quiet $(GROUP)
	rm -f .venv/.installed*
	touch $@

# apart from .venv: where no controller answers, Snakemake starts nine seconds later with the plugin in place
install-slurm: .venv-slurm/$(INSTALLED)

.venv-slurm/$(INSTALLED): pyproject.toml uv.lock | $(filter-out uv,$(UV))
	$(NOTE)
	UV_PROJECT_ENVIRONMENT=.venv-slurm $(UV) sync --frozen --quiet --group slurm $(GROUP)
	rm -f .venv-slurm/.installed*
	touch $@

demo: install
	snakemake build/demo/data/demo.json --workflow-profile profiles/demo
	snakemake tables figures page --workflow-profile profiles/demo
	@echo "next: source .venv/bin/activate && snakemake preflight --cores 8    # your own data: docs/data.md"

demo-full: install
	snakemake build/demo/data/demo.json --workflow-profile profiles/demo-full
	snakemake tables figures page --workflow-profile profiles/demo-full

# where the public downloads are: docs/data.md
DATA := data

real: install
	snakemake tables figures page --workflow-profile profiles/real --config data_root=$(DATA)

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

# SECONDS counts in bash
FUZZ_SECONDS := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),600)
SEED := 0

fuzz: install
	PYTHONPATH=tests:workflow/scripts python -m fuzz --seconds $(FUZZ_SECONDS) --seed $(SEED)

container:
	docker build -f envs/Dockerfile $(if $(CUDA),--build-arg CUDA=$(CUDA)) -t refers .

test-slurm: export PATH := $(CURDIR)/.venv-slurm/bin:$(PATH)
test-slurm: install-slurm
	pytest -m slurm tests/test_slurm.py

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	ty check
	snakemake --lint

lock: $(filter-out uv,$(UV))
	$(UV) lock
	$(MAKE) install
	.venv/bin/python envs/export.py $(UV)

schema: install
	cd workflow/scripts && python -m refers.config.schema
