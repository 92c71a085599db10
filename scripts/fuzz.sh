#!/usr/bin/env bash
# Bad inputs, many of them; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" fuzz "$@"
