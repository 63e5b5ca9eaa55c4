//! How long a session may be silent: per protocol, TCP state and UDP service.
//!
//! RFC 5382 REQ-5, RFC 4787 REQ-5 (shorter for well-known ports) and REQ-6 (what refreshes), RFC 5508 REQ-2.

use std::time::Duration;

use crate::nat::session::Facing;
use crate::nat::tcp_state::{TcpState, TcpTimeout};
use crate::packet::{PROTOCOL_ICMP, PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP};

/// Idle times, per class.
#[derive(Debug, Clone)]
pub struct IdleTimes {
    tcp_established: Duration,
    tcp_transitory: Duration,
    /// Half-open, begun while many were.
    tcp_pressed: Duration,
    udp: Duration,
    /// By ascending L4 port.
    udp_ports: Vec<(u16, Duration)>,
    icmp: Duration,
    other: Duration,
    inbound_refreshes: bool,
}

impl IdleTimes {
    /// From the configuration.
    #[must_use]
    pub fn new(timeouts: &algate_config::Timeouts, tcp_pressed: Option<Duration>) -> Self {
        Self {
            tcp_established: timeouts.tcp_established,
            tcp_transitory: timeouts.tcp_transitory,
            tcp_pressed: tcp_pressed.unwrap_or(timeouts.tcp_transitory),
            udp: timeouts.udp,
            udp_ports: timeouts.udp_ports.clone(),
            icmp: timeouts.icmp,
            other: timeouts.other,
            inbound_refreshes: timeouts.udp_inbound_refresh,
        }
    }

    /// Whether a packet other than TCP that came from `facing` keeps its session alive.
    #[inline]
    #[must_use]
    pub fn is_refreshed_by(&self, facing: Facing) -> bool {
        facing == Facing::Internal || self.inbound_refreshes
    }

    /// Of a session of `protocol` with the `service` port of the side that did not begin. `is_pressed`: it
    /// was begun while many sessions were half-open.
    #[inline]
    #[must_use]
    pub fn of(&self, protocol: u8, service: u16, tcp: TcpState, is_pressed: bool) -> Duration {
        match protocol {
            PROTOCOL_TCP if is_pressed && tcp == TcpState::Init => self.tcp_pressed,
            PROTOCOL_TCP => match tcp.timeout() {
                TcpTimeout::Established => self.tcp_established,
                TcpTimeout::Transitory => self.tcp_transitory,
            },
            PROTOCOL_ICMP => self.icmp,
            PROTOCOL_UDP => {
                let own = self.udp_ports.binary_search_by_key(&service, |(l4_port, _)| *l4_port);
                own.ok().and_then(|at| self.udp_ports.get(at)).map_or(self.udp, |(_, idle)| *idle)
            }
            PROTOCOL_SCTP if tcp.timeout() == TcpTimeout::Transitory => self.tcp_transitory,
            _ => self.other,
        }
    }
}
