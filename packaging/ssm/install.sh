#!/bin/sh
# Run by SSM Distributor (or by hand, as root) in the folder of the unpacked zip. Does nothing where this
# version is installed; where another one is, replaces it and keeps key and configuration.
. "$(dirname -- "$0")/life.sh"
bring
