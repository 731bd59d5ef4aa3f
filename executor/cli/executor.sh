#!/bin/sh
# The installed command. It starts the Python that it was installed beside, cut off from the caller's environment: no
# PYTHONHOME, no PYTHONPATH and no folder of the caller's decides what code runs, and text is UTF-8 in any locale.
self=$0
case $self in */*) ;; *) self=./$self ;; esac
if [ -L "$self" ]; then self=$(readlink -f -- "$self"); fi
if [ ! -x "${self%/*}/python" ]; then
  message='there is no Python beside the command'
  hint='install into an environment of its own, or start it as python -I -m executor'
  printf 'error: %s: %s\n\nhint: %s\n' "$message" "${self%/*}" "$hint" >&2
  for argument; do
    if [ "$argument" = --json ]; then
      printf '{"schema": "executor.error/v1", "status": "host_fault", "exit_code": 31, "error": {'
      printf '"code": "E-UNSUPPORTED", "message": "%s", "hint": "%s"}}\n' "$message" "$hint"
      break
    fi
  done
  exit 31
fi
exec "${self%/*}/python" -I -X utf8 -m executor "$@"
