#!/usr/bin/env bash
# Apex is in no package index. 24.04.01 still has apex.amp; without its CUDA kernels amp works, only slower.
set -euo pipefail
pip install --no-build-isolation --no-deps "apex @ git+https://github.com/NVIDIA/apex@24.04.01"
