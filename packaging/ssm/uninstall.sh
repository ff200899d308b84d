#!/bin/sh
# Run by SSM Distributor (or by hand, as root) in the folder of the unpacked zip. Programs leave the kernel;
# key, configuration and user stay, so that a new installation is the same host, unless SSM_PICKET_PURGE=yes.
. "$(dirname -- "$0")/life.sh"
leave
