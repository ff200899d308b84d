#!/bin/sh
# Run by SSM Distributor (or by hand, as root) in the folder of the unpacked zip. The same as install.sh:
# key and configuration stay, the service goes on if it ran, and what does not work is taken back.
. "$(dirname -- "$0")/life.sh"
bring
