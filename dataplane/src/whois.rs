//! `algate whois`: whose an external endpoint is, computed from a configuration and nothing else.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};

use algate_config::{Config, Server, Transport};
use algate_engine::nat::deterministic::{Deterministic, Owner};

/// What the configuration says about `address` and `l4_port`, one line for each thing it says.
#[must_use]
pub fn answer(config: &Config, address: Ipv4Addr, l4_port: u16) -> String {
    for pair in &config.nat.statics {
        if pair.external.contains(&address) {
            let host_bits = u32::from(address) & u32::from(pair.external.hostmask());
            let host = Ipv4Addr::from(u32::from(pair.internal.network()) | host_bits);
            return format!("{host}{} (static)\n", of_tenant(pair.tenant));
        }
    }
    let mut text = String::new();
    for forward in &config.nat.forwards {
        let offset = l4_port.checked_sub(forward.external.port()).filter(|offset| *offset < forward.ports);
        if let Some(offset) = offset.filter(|_| *forward.external.ip() == address) {
            let protocol = match forward.protocol {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
                Transport::TcpAndUdp => "tcp and udp",
            };
            let server = |server: &Server| {
                SocketAddrV4::new(*server.internal.ip(), server.internal.port() + offset).to_string()
            };
            let servers: Vec<String> = forward.servers.iter().map(server).collect();
            // Writing to a string cannot fail.
            let tenant = of_tenant(forward.tenant);
            let _ = writeln!(text, "{protocol}: forwarded to {}{tenant}", servers.join(" or "));
        }
    }
    let is_in = |(first, last): &(Ipv4Addr, Ipv4Addr)| *first <= address && address <= *last;
    let pool = config.nat.pools.iter().enumerate().find(|(_, pool)| pool.ranges.iter().any(is_in));
    let Some((index, pool)) = pool else {
        return format!("{address} is in no pool of this configuration\n");
    };
    let is_dynamic = pool.l4_ports.0 <= l4_port && l4_port <= pool.l4_ports.1;
    let deterministic = Deterministic::new(&config.nat, index);
    let owner = match &deterministic {
        Some(deterministic) => deterministic.owner(u32::from(address), l4_port),
        None => Some(if is_dynamic { Owner::Dynamic } else { Owner::Nobody }),
    };
    let line = match owner {
        Some(Owner::Host(host)) => {
            let tenant = deterministic.and_then(|pool| pool.tenant()).map_or(0, |tenant| tenant.0);
            format!("{}{} (pool {:?})", Ipv4Addr::from(host), of_tenant(tenant), pool.name)
        }
        Some(Owner::Dynamic) => format!("given out by chance in pool {:?}: ask the records", pool.name),
        Some(Owner::Nobody) | None => format!("no dynamic port of pool {:?}", pool.name),
    };
    // A forward's port outside the pool's range has been told in full.
    if text.is_empty() || is_dynamic {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn of_tenant(tenant: u16) -> String {
    if tenant == 0 { String::new() } else { format!(" of tenant {tenant}") }
}

#[cfg(test)]
mod tests {
    use algate_config::Machine;

    use super::*;

    #[test]
    fn c_16_tells_the_host_the_forward_or_that_it_cannot_tell() {
        let text = r#"
            nic_port = [{ name = "n", device = { driver = "null" } }]
            [[interface]]
            name = "lan"
            nic_port = "n"
            side = "internal"
            addresses = ["10.0.0.1/24"]
            [[nat.pool]]
            name = "fixed"
            addresses = ["203.0.113.7"]
            block_size = 128
            assignment = "deterministic"
            [[nat.pool]]
            name = "free"
            addresses = ["203.0.113.8"]
            [[nat.static]]
            external = "203.0.113.16/30"
            internal = "10.0.0.240/30"
            [[nat.rule]]
            internal = "10.0.0.0/25"
            pool = "fixed"
            [[nat.rule]]
            internal = "10.0.0.128/25"
            pool = "free"
            [[nat.forward]]
            protocol = "tcp"
            external = "203.0.113.7:21"
            internal = "10.0.0.9:21"
            [[nat.forward]]
            protocol = "tcp+udp"
            external = "203.0.113.7:500-509"
            internal = ["10.0.0.9:600-609", "10.0.0.8:500-509"]
        "#;
        let config = Config::parse(text, "t", &Machine::unchecked()).expect("the configuration is right");
        for (address, l4_port, expected) in [
            ("203.0.113.7", 1024, "10.0.0.0 (pool \"fixed\")\n"),
            ("203.0.113.7", 1024 + 2 * 128 - 1, "10.0.0.1 (pool \"fixed\")\n"),
            ("203.0.113.7", 65_535, "given out by chance in pool \"fixed\": ask the records\n"),
            ("203.0.113.7", 80, "no dynamic port of pool \"fixed\"\n"),
            ("203.0.113.7", 21, "tcp: forwarded to 10.0.0.9:21\n"),
            ("203.0.113.7", 509, "tcp and udp: forwarded to 10.0.0.9:609 or 10.0.0.8:509\n"),
            ("203.0.113.7", 510, "no dynamic port of pool \"fixed\"\n"),
            ("203.0.113.8", 5000, "given out by chance in pool \"free\": ask the records\n"),
            ("203.0.113.18", 5000, "10.0.0.242 (static)\n"),
            ("203.0.113.9", 5000, "203.0.113.9 is in no pool of this configuration\n"),
        ] {
            assert_eq!(answer(&config, address.parse().expect("an address"), l4_port), expected);
        }
    }

    #[test]
    fn s_25_tells_the_tenant_of_the_host() {
        let text = r#"
            nic_port = [{ name = "n", device = { driver = "null" } }]
            [[interface]]
            name = "lan"
            nic_port = "n"
            side = "internal"
            addresses = ["10.0.0.1/24"]
            [[interface]]
            name = "shop"
            nic_port = "n"
            vlan = 7
            side = "internal"
            tenant = 7
            addresses = ["10.0.0.1/24"]
            [[nat.pool]]
            name = "fixed"
            addresses = ["203.0.113.7"]
            block_size = 128
            assignment = "deterministic"
            [[nat.rule]]
            internal = "10.0.0.0/25"
            tenant = 7
            pool = "fixed"
            [[nat.forward]]
            protocol = "tcp"
            external = "203.0.113.7:21"
            internal = "10.0.0.9:21"
            tenant = 7
        "#;
        let config = Config::parse(text, "t", &Machine::unchecked()).expect("the configuration is right");
        let address = Ipv4Addr::new(203, 0, 113, 7);
        assert_eq!(answer(&config, address, 1024), "10.0.0.0 of tenant 7 (pool \"fixed\")\n");
        assert_eq!(answer(&config, address, 21), "tcp: forwarded to 10.0.0.9:21 of tenant 7\n");
    }
}
