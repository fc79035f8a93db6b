#!/bin/sh
# The software bill of materials of an environment, as CycloneDX JSON:
#
#   deploy/sbom.sh PYTHON OUTPUT [CYCLONEDX]
#
# PYTHON: the interpreter whose packages are listed. CYCLONEDX: the program cyclonedx-py, which need not be in
# that environment. The same packages give the same file, byte for byte.
set -eu
exec "${3:-cyclonedx-py}" environment --output-reproducible --spec-version 1.6 --output-format JSON --output-file "$2" "$1"
