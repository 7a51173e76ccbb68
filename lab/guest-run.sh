# shellcheck shell=sh
# What the scripts that run in the guest share.

who=$(id -un)

# Runs a command, and prints what it printed between lines that name it and say how it ended.
run() { # NAME COMMAND...
    name=$1
    code=0
    shift
    "$@" >"/tmp/$who" || code=$?
    echo "== begin $who $name"
    cat "/tmp/$who"
    echo "== done $who $name $code"
    return "$code"
}

# Repeats it until so many messages were sent.
run_until() { # MESSAGES NAME COMMAND...
    wanted=$1
    sum=0
    shift
    while [ "$sum" -lt "$wanted" ]; do
        run "$@" || return
        sum=$((sum + $(sed -n 's/^ *"messages": \([0-9]*\),$/\1/p' "/tmp/$who" | head -n 1)))
    done
}
