//! Every timer of the NAT at both its edges: the last second in which it still holds, and the first in which it does not.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::common::packets::{
    ACK, FIN, RST, SYN, at, echo_reply, echo_request, tcp, tcp_between, udp, udp_between,
};
use crate::common::{INSIDE, Net, OUTSIDE};

const HOST: &str = "10.0.0.2:4000";
const REMOTE: &str = "198.51.100.1:80";
/// More than it takes until the sweep has been everywhere.
const SETTLED: Duration = Duration::from_secs(3);

/// One row of the table.
struct Timer {
    name: &'static str,
    seconds: u64,
    toml: &'static str,
    /// Starts it; returns the external endpoint.
    start: fn(&mut Net) -> SocketAddrV4,
    /// Whether what it guards is still there, as a packet finds out.
    holds: fn(&mut Net, SocketAddrV4) -> bool,
}

const TIMERS: [Timer; 14] = [
    Timer { name: "U-06 UDP", seconds: 300, toml: "", start: udp_opens, holds: udp_reply_passes },
    Timer {
        name: "U-06 UDP, the shortest that RFC 4787 allows",
        seconds: 120,
        toml: "[timeouts]\nudp = \"2m\"\n",
        start: udp_opens,
        holds: udp_reply_passes,
    },
    Timer {
        name: "U-06 UDP, a well-known port's own",
        seconds: 30,
        toml: "[[timeouts.udp_port]]\nl4_port = 80\nidle = \"30s\"\n",
        start: udp_opens,
        holds: udp_reply_passes,
    },
    Timer { name: "I-01 ICMP query", seconds: 60, toml: "", start: ping_opens, holds: pong_passes },
    Timer {
        name: "I-01 ICMP query, as configured",
        seconds: 90,
        toml: "[timeouts]\nicmp = \"90s\"\n",
        start: ping_opens,
        holds: pong_passes,
    },
    Timer {
        name: "T-05 TCP established",
        seconds: 7_440,
        toml: "",
        start: tcp_established,
        holds: tcp_reply_passes,
    },
    Timer {
        name: "T-05 TCP half-open",
        seconds: 240,
        toml: "",
        start: tcp_begins,
        holds: |net, external| passes(net, &tcp_between(at(REMOTE), external, SYN | ACK, b"")),
    },
    Timer {
        name: "T-05 TCP half-closed",
        seconds: 7_440,
        toml: "",
        start: |net| {
            let external = tcp_established(net);
            net.one(INSIDE, &tcp(HOST, REMOTE, FIN | ACK));
            external
        },
        holds: tcp_reply_passes,
    },
    Timer {
        name: "T-10 TCP after a RST",
        seconds: 240,
        toml: "",
        start: |net| {
            let external = tcp_established(net);
            net.one(OUTSIDE, &tcp_between(at(REMOTE), external, RST, b""));
            external
        },
        holds: tcp_reply_passes,
    },
    Timer { name: "T-11c TCP closed", seconds: 240, toml: "", start: tcp_closes, holds: tcp_reply_passes },
    Timer {
        name: "T-11c TCP closed, as configured",
        seconds: 300,
        toml: "[timeouts]\ntcp_transitory = \"5m\"\n",
        start: tcp_closes,
        holds: tcp_reply_passes,
    },
    Timer {
        name: "T-04 an unsolicited SYN is silently held",
        seconds: 6,
        toml: "[tcp]\nunsolicited_syn = \"unreachable\"\n",
        start: |net| {
            net.send(OUTSIDE, &tcp(REMOTE, "203.0.113.10:4000", SYN));
            at("203.0.113.10:4000")
        },
        holds: |net, _| net.total(|counters| &counters.icmp_sent) == 0,
    },
    Timer { name: "C-07 a UDP port rests", seconds: 120, toml: "", start: udp_port_rests, holds: no_port },
    Timer {
        name: "C-07 a UDP port rests, as configured",
        seconds: 30,
        toml: "[nat.hold]\ntime = \"30s\"\n",
        start: udp_port_rests,
        holds: no_port,
    },
];

#[test]
fn u_06_t_04_t_05_t_10_t_11c_i_01_c_07_timer_table_each_timer_has_both_its_edges() {
    for Timer { name, seconds, toml, start, holds } in TIMERS {
        for (silence, expected) in [(seconds - 1, true), (seconds + 1, false)] {
            // One address and one port, so that a port that rests is seen to.
            let mut net = Net::with(toml, |config| {
                let pool = &mut config.nat.pools[0];
                (pool.ranges[0].1, pool.l4_ports) = (pool.ranges[0].0, (4_000, 4_000));
            });
            let external = start(&mut net);
            let silence = Duration::from_secs(silence);
            if silence > SETTLED {
                net.now = net.now.plus(silence - SETTLED);
            }
            net.advance(silence.min(SETTLED));
            assert_eq!(holds(&mut net, external), expected, "{name} after {silence:?}");
        }
    }
}

fn passes(net: &mut Net, inbound: &[u8]) -> bool {
    let seen = net.send(OUTSIDE, inbound);
    seen.iter().any(|seen| seen.nic_port == INSIDE)
}

fn udp_opens(net: &mut Net) -> SocketAddrV4 {
    net.one(INSIDE, &udp(HOST, REMOTE, b"")).source
}

fn udp_reply_passes(net: &mut Net, external: SocketAddrV4) -> bool {
    passes(net, &udp_between(at(REMOTE), external, b""))
}

fn ping_opens(net: &mut Net) -> SocketAddrV4 {
    net.one(INSIDE, &echo_request("10.0.0.2", "198.51.100.1", 7)).source
}

fn pong_passes(net: &mut Net, external: SocketAddrV4) -> bool {
    passes(net, &echo_reply("198.51.100.1", &external.ip().to_string(), external.port()))
}

fn tcp_begins(net: &mut Net) -> SocketAddrV4 {
    net.one(INSIDE, &tcp(HOST, REMOTE, SYN)).source
}

fn tcp_established(net: &mut Net) -> SocketAddrV4 {
    let external = tcp_begins(net);
    net.one(OUTSIDE, &tcp_between(at(REMOTE), external, SYN | ACK, b""));
    net.one(INSIDE, &tcp(HOST, REMOTE, ACK));
    external
}

fn tcp_closes(net: &mut Net) -> SocketAddrV4 {
    let external = tcp_established(net);
    net.one(INSIDE, &tcp(HOST, REMOTE, FIN | ACK));
    net.one(OUTSIDE, &tcp_between(at(REMOTE), external, FIN | ACK, b""));
    external
}

fn tcp_reply_passes(net: &mut Net, external: SocketAddrV4) -> bool {
    passes(net, &tcp_between(at(REMOTE), external, ACK, b""))
}

/// The only port was used and is released now.
fn udp_port_rests(net: &mut Net) -> SocketAddrV4 {
    let external = udp_opens(net);
    net.now = net.now.plus(Duration::from_secs(298));
    while net.engine.nat.ports.resting() == 0 {
        net.advance(Duration::from_millis(100));
    }
    external
}

fn no_port(net: &mut Net, _: SocketAddrV4) -> bool {
    net.one(INSIDE, &udp("10.0.0.3:5000", REMOTE, b"")).icmp.is_some()
}
