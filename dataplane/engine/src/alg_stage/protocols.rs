//! What the configuration says about each protocol. A new one adds a line to each `match` here.

use algate_alg::{
    CallIdKey, DccPeer, MediaPeer, MediaSource, Prefix, Protocol, ProtocolId, Ruling, Settings,
};
use algate_config::{Alg, Gateway, Unopened};

use crate::nat::key::Endpoint;
use crate::packet::{PROTOCOL_GRE, PROTOCOL_TCP, PROTOCOL_UDP};

/// The keys that every protocol has.
#[must_use]
pub const fn gateway(config: &Alg, protocol: ProtocolId) -> &Gateway {
    match protocol {
        ProtocolId::Ftp => &config.ftp.gateway,
        ProtocolId::Tftp => &config.tftp,
        ProtocolId::Sip => &config.sip.gateway,
        ProtocolId::Rtsp => &config.rtsp.gateway,
        ProtocolId::Irc => &config.irc.gateway,
        ProtocolId::Pptp => &config.pptp,
    }
}

/// How each protocol is read.
#[must_use]
pub fn settings(config: &Alg) -> Settings {
    let mut settings = Settings::default();
    settings.ftp.line_bytes = config.ftp.line_bytes;
    settings.ftp.expectation_lifetime = config.ftp.gateway.expectation_lifetime;
    settings.ftp.unopened = match config.ftp.unopened {
        Unopened::Deny => Ruling::Deny,
        Unopened::Allow => Ruling::Allow,
        Unopened::Drop => Ruling::Drop,
    };
    settings.tftp.expectation_lifetime = config.tftp.expectation_lifetime;
    let held = config.held_bytes;
    settings.sip.message_bytes = settings.sip.message_bytes.min(held);
    settings.sip.media_lifetime = config.sip.gateway.expectation_lifetime;
    settings.sip.call_lifetime = config.sip.call_lifetime;
    settings.sip.calls_per_flow = config.sip.calls_per_flow;
    settings.sip.calls = config.sip.calls;
    settings.sip.media_source =
        if config.sip.follows_description { MediaPeer::Named } else { MediaPeer::Signalling };
    settings.sip.direct_media = config.sip.direct_media;
    for (slot, net) in settings.sip.media_hosts.iter_mut().zip(&config.sip.media_hosts) {
        *slot = Some(Prefix { network: net.network(), length: net.prefix_len() });
    }
    settings.sip.call_id_key = config.sip.hide_call_id.as_deref().map(CallIdKey::new);
    // Below what the stream layer holds, or nothing could tell that it is too long.
    settings.rtsp.message_bytes = settings.rtsp.message_bytes.min(held - 1);
    settings.rtsp.expectation_lifetime = config.rtsp.gateway.expectation_lifetime;
    settings.rtsp.media_source =
        if config.rtsp.follows_source { MediaSource::Named } else { MediaSource::Server };
    settings.irc.line_bytes = settings.irc.line_bytes.min(held - 1);
    settings.irc.expectation_lifetime = config.irc.gateway.expectation_lifetime;
    settings.irc.peer = if config.irc.admits_any { DccPeer::Any } else { DccPeer::Server };
    settings.pptp.expectation_lifetime = config.pptp.expectation_lifetime;
    settings
}

/// Which protocol is read on a port: a few entries, looked at once per new session.
#[derive(Debug, Default)]
pub struct ControlPorts {
    /// IP protocol and port, ascending; the configuration gives each to one ALG.
    entries: Vec<((u8, u16), ProtocolId)>,
}

impl ControlPorts {
    /// The control ports of all protocols that are on.
    #[must_use]
    pub fn new(config: &Alg) -> Self {
        let mut entries = Vec::new();
        for protocol in ProtocolId::ALL {
            let gateway = gateway(config, protocol);
            for transport in protocol.transports().iter().filter(|_| gateway.enabled) {
                let ports = gateway.control_ports.iter();
                entries.extend(ports.map(|l4_port| ((ip_protocol(*transport), *l4_port), protocol)));
            }
        }
        entries.sort_unstable_by_key(|(port, _)| *port);
        Self { entries }
    }

    /// Whether any port is `protocol`'s.
    #[must_use]
    pub fn reads(&self, protocol: ProtocolId) -> bool {
        self.entries.iter().any(|(_, read)| *read == protocol)
    }

    /// The protocol of a session with one of these `servers`, over IP protocol `transport`.
    #[must_use]
    pub fn protocol_of(&self, transport: u8, servers: &[Endpoint]) -> Option<ProtocolId> {
        servers.iter().find_map(|server| {
            let wanted = (transport, server.l4_port);
            let at = self.entries.binary_search_by_key(&wanted, |(port, _)| *port).ok()?;
            self.entries.get(at).map(|(_, protocol)| *protocol)
        })
    }
}

/// The IP protocol number of a transport.
#[must_use]
pub const fn ip_protocol(transport: Protocol) -> u8 {
    match transport {
        Protocol::Tcp => PROTOCOL_TCP,
        Protocol::Udp => PROTOCOL_UDP,
        Protocol::Gre => PROTOCOL_GRE,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use algate_config::{Config, Machine};

    use super::*;

    pub(crate) fn config(alg: &str) -> Config {
        let text = format!(
            "nic_port = [{{ name = \"n\", device = {{ driver = \"null\" }} }}]\n[[interface]]\nname = \"lan\"\n\
             nic_port = \"n\"\nside = \"internal\"\naddresses = [\"10.0.0.1/24\"]\n{alg}"
        );
        Config::parse(&text, "t", &Machine::unchecked()).expect("the configuration is right")
    }

    #[test]
    fn a_port_names_a_protocol_by_its_transport_while_that_is_on() {
        let to = |l4_port| [Endpoint::new(1, l4_port)];
        let ports = ControlPorts::new(
            &config("[alg.ftp]\nenabled = true\ncontrol_ports = [69, 21]\n[alg.tftp]\nenabled = true\n").alg,
        );
        assert_eq!(ports.protocol_of(PROTOCOL_TCP, &to(69)), Some(ProtocolId::Ftp));
        assert_eq!(ports.protocol_of(PROTOCOL_UDP, &to(69)), Some(ProtocolId::Tftp));
        assert_eq!(ports.protocol_of(PROTOCOL_UDP, &to(21)), None);
        let either = [to(5000), to(21)].concat();
        assert_eq!(ports.protocol_of(PROTOCOL_TCP, &either), Some(ProtocolId::Ftp));
        let off = ControlPorts::new(&config("[alg.tftp]\nenabled = true\n").alg);
        assert_eq!(off.protocol_of(PROTOCOL_TCP, &to(21)), None);
    }

    #[test]
    fn every_protocol_has_settings_of_its_own_default_port() {
        let config = config("");
        for protocol in ProtocolId::ALL {
            let gateway = gateway(&config.alg, protocol);
            assert_eq!(gateway.control_ports, [protocol.default_l4_port()], "{}", protocol.name());
        }
    }
}
