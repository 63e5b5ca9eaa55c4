# A lab is three network namespaces in a row, with algate in the middle one:
#
#   algate-NAME-in               algate-NAME-gw              algate-NAME-ex
#   eth0 ------------------ int0   (algate)   ext0 ------------------ eth0
#   10.0.0.2, 10.0.0.3           10.0.0.1    203.0.113.1              203.0.113.2, 198.51.100.2
#                                pool 203.0.113.10 to 203.0.113.20
#
# algate's ends of the cables carry no kernel address: its own addresses exist only in DPDK. scripts/lab/host adds
# a second internal host (int1, algate-NAME-in2) or one behind the external host (192.0.2.2, algate-NAME-far).
# Sourced, never run.
# shellcheck shell=bash
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Sets the names of lab NAME.
# shellcheck disable=SC2034 # read by those that source this
lab_names() {
  [[ ${1:-} =~ ^[a-z0-9-]{1,20}$ ]] || fail "a lab's name has 1 to 20 of a-z, 0-9 and -"
  LAB=$1
  IN=algate-$LAB-in
  IN2=algate-$LAB-in2
  GW=algate-$LAB-gw
  EX=algate-$LAB-ex
  FAR=algate-$LAB-far
  STATE=/run/algate-lab/$LAB
  SOCKET=$STATE/algate.sock
}

# Waits up to SECONDS until a command succeeds: wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# Runs a command in a namespace: on NAMESPACE COMMAND... (In the background, call ip itself: a pid of a function is its shell.)
on() { ip netns exec "$@"; }

# Makes a host without cables: namespace NAMESPACE NAME_SERVER
namespace() {
  ip netns add "$1"
  on "$1" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 net.ipv4.ip_forward=0
  # vsftpd calls from port 20 each time: no TIME_WAIT may keep it.
  on "$1" sysctl -qw net.ipv4.tcp_max_tw_buckets=0
  ip -n "$1" link set lo up
  # /etc of one namespace: without these files its programs would ask the machine's own resolver.
  mkdir -p "/etc/netns/$1"
  printf '127.0.0.1 localhost %s\n10.0.0.2 client\n203.0.113.2 server\n' "$(uname -n)" >"/etc/netns/$1/hosts"
  printf 'nameserver %s\noptions timeout:1 attempts:1\n' "$2" >"/etc/netns/$1/resolv.conf"
}

# A veth pair with checksums and segment sizes as on a real cable: cable HOST_NAMESPACE OTHER_NAMESPACE OTHER_DEVICE.
cable() {
  local host=$1 other=$2 device=$3 offloads="tx off rx off tso off gso off gro off sg off"
  ip -n "$host" link add eth0 type veth peer name "$device" netns "$other"
  # shellcheck disable=SC2086 # the offloads are words
  on "$host" ethtool -K eth0 $offloads >/dev/null
  # shellcheck disable=SC2086 # the offloads are words
  on "$other" ethtool -K "$device" $offloads >/dev/null
  ip -n "$host" link set eth0 up
  ip -n "$other" link set "$device" up
}

# Ends every process of a namespace, by pid: first politely, after three seconds by force.
end_processes() {
  local pids
  pids=$(ip netns pids "$1" 2>/dev/null) || return 0
  [ -n "$pids" ] || return 0
  # shellcheck disable=SC2086 # one word per pid
  kill -TERM $pids 2>/dev/null || true
  wait_until 3 namespace_empty "$1" && return
  pids=$(ip netns pids "$1")
  # shellcheck disable=SC2086 # one word per pid
  kill -KILL $pids 2>/dev/null || true
  wait_until 3 namespace_empty "$1" || say "processes of $1 do not end: $(ip netns pids "$1" | xargs)"
}

namespace_empty() { [ -z "$(ip netns pids "$1")" ]; }

# Starts algate in the lab from a config file and waits until it answers: start_algate BINARY CONFIG. Sets ALGATE_PID.
start_algate() {
  ip netns exec "$GW" "$1" run -c "$2" >>"$STATE/algate.log" 2>&1 &
  ALGATE_PID=$!
  wait_until 15 algate_settled "$1" || fail "algate does not answer after 15 s; its log: $STATE/algate.log"
  kill -0 "$ALGATE_PID" 2>/dev/null || fail "algate ended at once: $(tail -n 5 "$STATE/algate.log")"
}

# True once algate answers or has ended.
algate_settled() {
  "$1" show ports --socket "$SOCKET" >/dev/null 2>&1 || ! kill -0 "$ALGATE_PID" 2>/dev/null
}

# Stops algate politely; the exit code is algate's own.
stop_algate() {
  kill -TERM "$ALGATE_PID"
  wait "$ALGATE_PID"
}

# Starts a capture of a host's cable: start_capture NAMESPACE FILE. Appends to CAPTURE_PIDS.
start_capture() {
  local log=$2.log
  ip netns exec "$1" tcpdump -i eth0 -s 0 -U --immediate-mode -Z root -w "$2" 2>"$log" &
  CAPTURE_PIDS+=($!)
  wait_until 20 grep -qs 'listening on' "$log" || fail "tcpdump does not start: $(cat "$log")"
}

# Ends all captures; their files are complete afterwards.
stop_captures() {
  local pid
  for pid in "${CAPTURE_PIDS[@]}"; do
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" || true
  done
  CAPTURE_PIDS=()
}
