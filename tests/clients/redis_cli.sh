#!/usr/bin/env bash
# The loop of many an operator: asks a sentinel for the master with redis-cli and writes there;
# arguments and output are those of follow.py, but without news.
#
# Usage: redis_cli.sh [-3] GROUP NAME PORT...
set -u
protocol=()
if [ "$1" = -3 ]; then
    protocol=(-3)
    shift
fi
group=$1 name=$2
shift 2

say() {
    local now=${EPOCHREALTIME/./}
    echo "$1" "${now%???}" "${@:2}"
}

# Events of one sentinel: redis-cli prints each on lines of their own, and ends with its connection.
listen() {
    redis-cli "${protocol[@]}" -p "$1" psubscribe '*' | while read -r word; do
        case $word in
            psubscribe) say subscribed "$1"; read -r _; read -r _ ;;
            pmessage) read -r _; read -r channel; read -r text; say event "$1" "$channel" "$text" ;;
            *) say error "$word" ;;
        esac
    done
    say lost "$1"
}

for port in "$@"; do listen "$port" & done

number=0
while true; do
    number=$((number + 1))
    address=()
    for port in "$@"; do
        mapfile -t address < <(timeout 1 redis-cli "${protocol[@]}" -p "$port" \
            sentinel get-master-addr-by-name "$group" 2>&1)
        [ ${#address[@]} -eq 2 ] && break
    done
    if [ ${#address[@]} -ne 2 ]; then
        say error "no address: ${address[*]}"
        continue
    fi
    reply=$(timeout 1 redis-cli "${protocol[@]}" -h "${address[0]}" -p "${address[1]}" \
        set "$name:$number" "$number" 2>&1)
    if [ "$reply" = OK ]; then say ack "$number"; else say error "$reply"; fi
    sleep 0.02
done
