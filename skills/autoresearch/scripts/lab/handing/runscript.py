"""The shell script of a run request: unpacks, checks, runs, and gathers what has to come back.

It is written for bash 3.2 (macOS) and needs tar and the usual small tools, no git. What varies is put in as
quoted words and nothing else, so that no name or argument can become code.
"""

from __future__ import annotations

import shlex

from lab.handing.machine import KIND
from lab.handing.request import Request

OPTIONAL = (".venv", "venv")  # shared folders that a run may do without: --python names another one

HEAD = r"""#!/usr/bin/env bash
# A run request made by autoresearch. It writes only below the folder it lies in and sends nothing anywhere.
# REQUEST.md beside it says what it is about.
set -u
"""

BODY = r"""
usage() {
  echo "usage: bash run.sh [--python PROGRAM] [--project DIR]"
  echo "  --python PROGRAM  the Python that has the project's packages (or set PYTHON)"
  echo "  --project DIR     a copy of the project with its data (or set PROJECT)"
}

fail() {
  echo "run.sh: $*" >&2
  exit 1
}

python=${PYTHON:-}
project=${PROJECT:-}
while [ $# -gt 0 ]; do
  case $1 in
    --python) [ $# -gt 1 ] || fail "--python needs a program"; python=$2; shift 2 ;;
    --project) [ $# -gt 1 ] || fail "--project needs a folder"; project=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P) || exit 1
results=$here/result-$request
[ -z "$project" ] || project=$(cd "$project" && pwd -P) || fail "there is no folder $project"
case $python in
  */*) python=$(cd "$(dirname "$python")" && pwd -P)/${python##*/} ;;
  "")
    for python in "$project/.venv/bin/python" python3 python; do
      command -v "$python" > /dev/null 2>&1 && break
      python=
    done ;;
esac

sha256() {
  if command -v sha256sum > /dev/null 2>&1; then sha256sum
  elif command -v shasum > /dev/null 2>&1; then shasum -a 256
  else openssl dgst -sha256 -r
  fi | cut -d ' ' -f 1
}

size_of() { wc -c < "$1" | tr -d ' '; }

limiter=()
for name in timeout gtimeout; do
  if command -v "$name" > /dev/null 2>&1; then
    limiter=("$name" -k 30 "$limit_seconds")
    break
  fi
done
[ ${#limiter[@]} -gt 0 ] || echo "run.sh: no timeout program here: end a run yourself after $limit_seconds s"

child=
stop() {
  if [ -n "$child" ]; then
    kill -TERM "$child" 2> /dev/null
    wait "$child" 2> /dev/null
  fi
  echo "run.sh: interrupted; call it again to go on" >&2
  exit 130
}

version_of() {  # of a Python package, without importing it
  [ -n "$python" ] || return 0
  "$python" -c 'import sys, importlib.metadata as m; print(m.version(sys.argv[1]))' "$1" 2> /dev/null
}

changed_files() {  # protected files in the folder $1 that are not what they were
  for entry in ${protected[@]+"${protected[@]}"}; do
    [ "$(sha256 2> /dev/null < "$1/${entry#*  }")" = "${entry%%  *}" ] || printf '%s; ' "${entry#*  }"
  done
}

link_shared() {  # what the project has and git has not
  for name in ${share[@]+"${share[@]}"}; do
    place=$1/$inside$name
    if [ -e "$place" ]; then continue; fi
    if [ -n "$project" ] && [ -e "$project/$name" ]; then
      mkdir -p "$(dirname "$place")" && ln -s "$project/$name" "$place" || fail "cannot link $name"
    else
      case " $optional " in
        *" $name "*) ;;
        *) fail "the run needs $name: name a copy of the project that has it with --project DIR" ;;
      esac
    fi
  done
}

say() { printf '%s: %s\n' "$1" "$(printf '%s' "$2" | tr '\n\r' '  ')"; }

run_one() {  # run_one RUN SEED NAME=value... -- COMMAND...
  local run=$1 seed=$2 words tree out kept log code began began_at seconds timed_out=no
  shift 2
  out=$results/$run tree=$here/work/$run kept=$here/out/$run
  if [ -f "$out/provenance.txt" ]; then
    echo "$run: done before"
    return 0
  fi
  words=$(printf '%s\n' "$@" | sha256)
  local settings=()
  while [ "$1" != -- ]; do
    settings+=("$1")
    shift
  done
  shift
  if [ "$1" = @python ]; then
    [ -n "$python" ] || fail "no Python here: name one with --python"
    shift
    set -- "$python" "$@"
  fi
  rm -rf "$tree" "$out" "$kept"
  mkdir -p "$tree" "$out" "$kept" || exit 1
  tar -xzf "$here/code.tar.gz" -C "$tree" || fail "code.tar.gz cannot be unpacked"
  link_shared "$tree"
  log=$out/run.log
  printf '[autoresearch %s run %s seed %s commit %s token %s]\n' \
    "$request" "$run" "$seed" "$commit" "$token" > "$log"
  echo "$run: seed $seed, output goes to $log"
  began=$(date +%s) began_at=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  (
    cd "$tree/$inside" || exit 1
    exec ${limiter[@]+"${limiter[@]}"} env PYTHONUNBUFFERED=1 "AUTORESEARCH_RUN=$run:$token" \
      "AUTORESEARCH_RUN_DIR=$kept" ${settings[@]+"${settings[@]}"} "$@"
  ) >> "$log" 2>&1 < /dev/null &
  child=$!
  wait "$child"
  code=$?
  child=
  seconds=$(($(date +%s) - began))
  if [ ${#limiter[@]} -gt 0 ] && [ "$seconds" -ge "$limit_seconds" ]; then
    case $code in 124 | 137) timed_out=yes ;; esac
  fi
  printf '\n[autoresearch end %s exit %s seconds %s timed_out %s]\n' \
    "$run" "$code" "$seconds" "$timed_out" >> "$log"
  for name in metrics.json curve.jsonl; do
    for place in "$kept/$name" "$tree/$inside$name"; do
      if [ -f "$place" ] && [ ! -f "$out/$name" ] && [ "$(size_of "$place")" -le 4000000 ]; then
        cp "$place" "$out/$name"
      fi
    done
  done
  {
    say request "$request"
    say token "$token"
    say run "$run"
    say experiment "$experiment"
    say commit "$commit"
    say code "$measured_code"
    say words "$words"
    say seed "$seed"
    say started "$began_at"
    say ended "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    say seconds "$seconds"
    say exit "$code"
    say timed_out "$timed_out"
    say changed "$(changed_files "$tree")"
    say log_bytes "$(size_of "$log")"
    say log_sha256 "$(sha256 < "$log")"
    say machine "$(machine_kind)"
    say tree "$tree"
    say host "$(uname -n)"
    say system "$(uname -srm)"
    say driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2> /dev/null | head -n 1)"
    [ -z "$python" ] ||
      say python "$("$python" -c 'import platform; print(platform.python_version())' 2> /dev/null)"
    for name in torch jax numpy; do say "$name" "$(version_of "$name")"; done
  } > "$out/provenance.tmp"
  mv "$out/provenance.tmp" "$out/provenance.txt" || exit 1
  rm -rf "$tree"
  echo "$run: ended with exit code $code after $seconds s"
  [ "$code" -eq 0 ]
}

pack() {
  (cd "$here" && COPYFILE_DISABLE=1 tar -czf "result-$request.tar.gz" "result-$request") || exit 1
  echo "send back: $here/result-$request.tar.gz"
}

measured_code=$(sha256 < "$here/code.tar.gz")
[ "$measured_code" = "$code_sha256" ] || fail "code.tar.gz is not the one of this request: get it again"
mkdir -p "$results" || exit 1
mkdir "$here/busy" 2> /dev/null ||
  fail "another call is at work here (if none is, remove the folder $here/busy)"
trap 'rmdir "$here/busy"' EXIT
trap stop INT TERM
"""


def script(request: Request) -> str:
    """Return run.sh."""
    values = {
        "request": request.id,
        "token": request.token,
        "experiment": request.experiment,
        "commit": request.commit,
        "code_sha256": request.code_sha256,
        "inside": request.inside,
        "limit_seconds": f"{max(1, round(request.kill_after))}",
        "optional": " ".join(name for name in request.share if name in OPTIONAL),
    }
    lists = {
        "share": request.share,
        "protected": [f"{digest}  {path}" for path, digest in request.protected.items()],
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in values.items()]
    lines += [f"{name}=({' '.join(map(shlex.quote, words))})" for name, words in lists.items()]
    calls = [
        shlex.join(["run_one", run.id, "none" if run.seed is None else str(run.seed), *run.words])
        for run in request.runs
    ]
    # A failed run ends the request: what comes after it would fail the same way.
    return "\n".join([HEAD, *lines, KIND, BODY, " &&\n  ".join(calls), "pack", ""])
