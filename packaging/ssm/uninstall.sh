#!/bin/sh
# Run by SSM Distributor (or by hand, as root) in the folder of the unpacked zip. Leaves nothing behind:
# programs in the kernel, key, configuration and users go, unless SSM_PICKET_KEEP_STATE=yes.
. "$(dirname -- "$0")/life.sh"
leave
