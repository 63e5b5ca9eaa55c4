# Shared by the scripts beside it: strict mode, messages, where things are. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Under sudo, Rust is the caller's, for root's PATH does not have it; what root builds stays out of the caller's way.
if [ -n "${SUDO_USER:-}" ] && ! command -v cargo >/dev/null; then
  CALLER_HOME=$(getent passwd "$SUDO_USER" | cut -d : -f 6)
  export PATH=$CALLER_HOME/.cargo/bin:$PATH RUSTUP_HOME=${RUSTUP_HOME:-$CALLER_HOME/.rustup}
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target/root}
fi
# shellcheck disable=SC2034 # read by those that source this
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

say() { printf '%s\n' "$*"; }

step() { printf '\n== %s\n' "$*"; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# The packages of one list, one a line.
packages() { sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$ROOT/scripts/packages/$1.txt"; }

# Servers that Debian lets nobody install beside vsftpd and tftpd-hpa: scripts/setup unpacks each into a directory of its name.
UNPACKED=/var/cache/algate-lab
UNPACKED_PACKAGES=(pure-ftpd proftpd-core atftpd)

# Those that are not unpacked, one a line.
missing_unpacked() {
  local package
  for package in "${UNPACKED_PACKAGES[@]}"; do
    [ -e "$UNPACKED/$package" ] || say "$package"
  done
}

# Why labs cannot run here; prints nothing where they can.
lab_obstacle() {
  local probe="algate-probe-$$" tool
  is_root || { say "not root"; return; }
  for tool in ip ethtool tcpdump vsftpd curl nginx dnsmasq iperf3 socat ab traceroute turnserver in.tftpd tftp lftp tnftp ncftpget atftp \
    sipp kamailio ngircd inspircd weechat-headless irssi gst-launch-1.0 ffmpeg pptpd pptp; do
    command -v "$tool" >/dev/null || { say "$tool is not installed (scripts/setup lab)"; return; }
  done
  for tool in $(missing_unpacked); do
    say "$tool is not unpacked (scripts/setup lab)"
    return
  done
  if ip netns add "$probe" 2>/dev/null; then
    ip netns delete "$probe"
  else
    say "this machine does not let root make network namespaces"
  fi
}
