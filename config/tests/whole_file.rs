//! Whole files: all mistakes at once, defaults, machines, and files that nobody would write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::Duration;

use algate_config::{Config, Device, Machine, Unopened};
use proptest::prelude::*;

const SMALLEST: &str = r#"
[[nic_port]]
name = "lan0"
device = { driver = "null" }

[[interface]]
name = "lan"
nic_port = "lan0"
side = "internal"
addresses = ["10.0.0.1/24"]
"#;

fn machine(cores: &[usize]) -> Machine {
    Machine { cores: cores.to_vec(), kernel_interfaces: None }
}

fn errors_of(text: &str) -> String {
    Config::parse(text, "algate.toml", &machine(&[0, 1])).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_told_everything_it_lacks() {
    assert_eq!(
        errors_of(""),
        "algate.toml:1: interface: is missing; add [[interface]] for each network that algate routes\n\
         algate.toml:1: nic_port: is missing; add [[nic_port]] for each NIC, two as a rule"
    );
    assert_eq!(
        errors_of("nic_port = []\n[[interface]]\n"),
        "algate.toml:1: nic_port = []: is empty; add [[nic_port]] for each NIC, two as a rule\n\
         algate.toml:2: interface[0].addresses: is missing; add a line like addresses = [\"10.0.0.1/24\"]\n\
         algate.toml:2: interface[0].name: is missing; add a line like name = \"lan\"\n\
         algate.toml:2: interface[0].nic_port: is missing; add a line like nic_port = \"lan0\"\n\
         algate.toml:2: interface[0].side: is missing; add a line like side = \"internal\""
    );
}

#[test]
fn u_08_a_pool_or_an_external_subnet_that_overlaps_an_internal_one_is_refused_with_both_lines() {
    let pool = format!(
        "{SMALLEST}[[nat.pool]]\nname = \"public\"\naddresses = [\"203.0.113.1\", \"10.0.0.128/25\"]\n"
    );
    assert_eq!(
        errors_of(&pool),
        "algate.toml:13: nat.pool[0].addresses = \"10.0.0.128/25\": overlaps internal subnet 10.0.0.0/24 of \
         interface \"lan\" (line 10); choose addresses outside every internal subnet"
    );
    let wan = format!(
        "{SMALLEST}[[nic_port]]\nname = \"wan0\"\ndevice = {{ driver = \"null\" }}\n[[interface]]\nname = \"wan\"\n\
         nic_port = \"wan0\"\nside = \"external\"\naddresses = [\"10.0.0.2/16\"]\n"
    );
    assert_eq!(
        errors_of(&wan),
        "algate.toml:18: interface[1].addresses = \"10.0.0.2/16\": overlaps connected prefix 10.0.0.0/24 of \
         interface \"lan\" (line 10); give each interface a prefix of its own"
    );
}

#[test]
fn ten_mistakes_are_told_at_once_in_line_order() {
    let text = r#"
[eal]
hugepages = "maybe"
[workers]
cores = [1, 7]
brust = 32
[[nic_port]]
name = "lan0"
device = { driver = "pci", address = "01:00.0" }
mtu = 40
[[interface]]
name = "lan"
nic_port = "lan9"
side = "internal"
addresses = ["10.0.0.0/24"]
[[nat.pool]]
name = "public"
addresses = ["10.0.0.7/24"]
[timeouts]
udp = "1m"
[log]
level = 3
[http]
listen = "0.0.0.0:80"
"#;
    assert_eq!(
        errors_of(text),
        r#"algate.toml:3: eal.hugepages = "maybe": is not one of the choices; write "auto", "require" or "never"
algate.toml:5: workers.cores = 7: does not exist or may not be used; the cores are 0 and 1
algate.toml:6: workers.brust: is not a key of [workers]; did you mean burst?
algate.toml:9: nic_port[0].device.address = "01:00.0": is not a PCI address; write domain:bus:device.function as lspci -D prints it, e.g. "0000:01:00.0"
algate.toml:10: nic_port[0].mtu = 40: is below the minimum 68; choose 68 to 9000
algate.toml:13: interface[0].nic_port = "lan9": names no NIC port; the only NIC port is "lan0"
algate.toml:15: interface[0].addresses = "10.0.0.0/24": is the network address of 10.0.0.0/24; choose a host's address, e.g. 10.0.0.1/24
algate.toml:18: nat.pool[0].addresses = "10.0.0.7/24": has host bits set; write "10.0.0.0/24"
algate.toml:20: timeouts.udp = "1m": is below the minimum 2m of RFC 4787 REQ-5; choose 2m or more, or in a lab set timeouts.allow_short = true
algate.toml:22: log.level = 3: is an integer, not a string; write e.g. level = "info"
algate.toml:23: http: is not a table of this file; the tables are [eal], [workers], [[nic_port]], [[interface]], [[route]], [nat], [[filter]], [alg], [tcp], [timeouts], [fragments], [tables], [icmp], [pcp], [events], [control] and [log]"#
    );
}

#[test]
fn an_error_keeps_its_parts() {
    let errors = Config::parse("[eal]\n  main_core = 9\n", "a.toml", &machine(&[0])).unwrap_err();
    let error = errors.iter().find(|error| error.line == 2).unwrap();
    assert_eq!((error.file.as_str(), error.column), ("a.toml", 15));
    assert_eq!((error.key.as_str(), error.value.as_str()), ("eal.main_core", "9"));
    assert_eq!(error.problem, "does not exist or may not be used");
    assert_eq!(error.remedy, "the only core is 0");
}

#[test]
fn the_65th_nic_port_is_refused() {
    let port =
        |index: usize| format!("[[nic_port]]\nname = \"p{index}\"\ndevice = {{ driver = \"null\" }}\n");
    let text: String = (0..65).map(port).collect();
    let refusal = "algate.toml:193: nic_port[64]: is one more than the 64 NIC ports supported; remove it";
    assert!(errors_of(&text).lines().any(|line| line == refusal), "{}", errors_of(&text));
}

#[test]
fn the_16385th_filter_rule_is_refused() {
    let rule = |index: usize| {
        let (high, low) = (index / 256, index % 256);
        format!(
            "[[filter]]\nname = \"r{index}\"\naction = \"deny\"\ndestination = [\"198.51.{high}.{low}/32\"]\n"
        )
    };
    let text: String = SMALLEST.to_string() + &(0..=16_384).map(rule).collect::<String>();
    let errors = errors_of(&text);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.ends_with(
        ": filter[16384]: is one more than the 16384 rules supported; put several prefixes or ports into one rule"
    ), "{errors}");
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let config = Config::parse(SMALLEST, "algate.toml", &machine(&[0, 1])).unwrap();
    assert_eq!((config.eal.main_core, config.eal.file_prefix.as_str()), (0, "algate"));
    assert_eq!((config.workers.burst, config.workers.handover_packets), (128, 1024));
    assert_eq!(config.nic_ports[0].device, Device::Null);
    assert_eq!((config.nic_ports[0].rx_descriptors, config.nic_ports[0].mtu), (1024, 1500));
    assert_eq!(config.interfaces[0].mtu, 1500);
    assert!(!config.alg.ftp.gateway.enabled && !config.alg.tftp.enabled);
    assert_eq!((config.alg.held_bytes, config.alg.ftp.line_bytes), (16_384, 512));
    assert_eq!(config.alg.ftp.unopened, Unopened::Deny);
    assert_eq!(
        (&config.alg.ftp.gateway.control_ports, &config.alg.tftp.control_ports),
        (&vec![21], &vec![69])
    );
    let alg = &config.alg;
    let gateways = [&alg.sip.gateway, &alg.rtsp.gateway, &alg.irc.gateway, &alg.pptp];
    assert!(gateways.iter().all(|gateway| !gateway.enabled));
    assert_eq!(gateways.map(|gateway| gateway.control_ports[0]), [5060, 554, 6667, 1723]);
    assert_eq!(gateways.map(|gateway| gateway.expectations), [64, 64, 8, 32]);
    assert_eq!(gateways.map(|gateway| gateway.expectation_lifetime.as_secs()), [180, 60, 300, 600]);
    assert_eq!(alg.sip.call_lifetime.as_secs(), 1_800);
    assert_eq!((alg.sip.calls_per_flow, alg.sip.calls), (64, 1_024));
    assert!(alg.sip.follows_description && !alg.sip.direct_media);
    assert!(alg.sip.media_hosts.is_empty() && alg.sip.hide_call_id.is_none());
    assert!(!alg.rtsp.follows_source && alg.irc.admits_any);
    assert_eq!(config.timeouts.tcp_established, Duration::from_secs(2 * 3600 + 4 * 60));
    assert_eq!(config.timeouts.arp, Duration::from_secs(1200));
    assert_eq!((config.tables.sessions, config.tables.mappings), (65_536, 65_536));
    assert_eq!((config.tables.half_open, config.tcp.mss_clamp), (16_384, true));
    assert_eq!(config.timeouts.udp_ports, []);
    assert_eq!((config.fragments.datagrams, config.fragments.kept), (4096, 512));
    assert_eq!((config.fragments.per_source, config.fragments.lifetime.as_millis()), (16, 2000));
    assert_eq!(config.fragments.whole_bytes, 2_048);
    let with_sip = format!("{SMALLEST}[alg.sip]\nenabled = true\n");
    let with_sip = Config::parse(&with_sip, "a", &machine(&[0, 1])).unwrap();
    assert_eq!(with_sip.fragments.whole_bytes, 4_096, "an INVITE is larger than a frame");
    assert_eq!((config.tables.mbufs, config.icmp.rate_per_second), (16_384, 100));
}

#[test]
fn sizes_that_follow_from_others_do() {
    let text = format!("{SMALLEST}[tables]\nsessions = 100\n");
    assert_eq!(Config::parse(&text, "a", &machine(&[0, 1])).unwrap().tables.mappings, 100);
    // Nine workers with 2,048 descriptors, 512 kept fragments and a burst of 128 each: 24,192 mbufs, the next
    // power of two.
    let config = Config::parse(SMALLEST, "a", &machine(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])).unwrap();
    assert_eq!(config.tables.mbufs, 32_768);
}

#[test]
fn workers_take_the_cores_that_are_free() {
    for (name, cores, table, main_core, expected) in [
        ("one core is shared", &[0][..], "", 0, &[0][..]),
        ("of two, the second", &[0, 1], "", 0, &[1]),
        ("of four, all but the first", &[0, 1, 2, 3], "", 0, &[1, 2, 3]),
        ("a machine without core 0", &[4, 5], "", 4, &[5]),
        ("another main core", &[0, 1, 2], "[eal]\nmain_core = 1\n", 1, &[0, 2]),
        ("ALG cores are taken", &[0, 1, 2, 3], "[workers]\nalg_cores = [1]\n", 0, &[2, 3]),
        ("two cores, one of them the ALG's", &[0, 1], "[workers]\nalg_cores = [1]\n", 0, &[0]),
        ("the main core may be listed", &[0, 1], "[workers]\ncores = [0, 1]\n", 0, &[0, 1]),
    ] {
        let config = Config::parse(&format!("{SMALLEST}{table}"), "a", &machine(cores)).unwrap();
        assert_eq!(config.eal.main_core, main_core, "{name}");
        assert_eq!(config.workers.cores, expected, "{name}");
    }
}

#[test]
fn every_device_survives_printing() {
    for device in [
        r#"{ driver = "pci", address = "0000:af:00.1" }"#,
        r#"{ driver = "af_packet", interface = "veth0" }"#,
        r#"{ driver = "af_xdp", interface = "veth0" }"#,
        r#"{ driver = "tap", interface = "dtap0" }"#,
        r#"{ driver = "memif", role = "client", id = 3, socket = "/run/a \"b\"\\c" }"#,
        r#"{ driver = "pcap", rx = "in.pcap", tx = "out.pcap" }"#,
        r#"{ driver = "ring", name = "r0" }"#,
        r#"{ driver = "null" }"#,
    ] {
        let text = SMALLEST.replace(r#"{ driver = "null" }"#, device);
        let printed = Config::parse(&text, "a", &Machine::unchecked()).unwrap().to_toml();
        assert!(printed.contains(&format!("device = {device}\n")), "{printed}");
        let again = Config::parse(&printed, "a", &Machine::unchecked()).unwrap();
        assert_eq!(again.to_toml(), printed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        check_errors(&text)?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_errors(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn random_keys_and_values_never_panic(
        lines in proptest::collection::vec(
            "(\\[\\[?(eal|workers|nic_port|interface|nat\\.pool|nat|alg\\.ftp|x)\\]\\]?\
              |(name|cores|device|side|addresses|udp|\"\\PC\") = (1|-1|1.5|true|\"\\PC{0,9}\"|\\[\"10.0.0.1/24\", 1\\]|\\{ driver = \"\\PC\" \\}))",
            0..12,
        ),
    ) {
        check_errors(&lines.join("\n"))?;
    }
}

/// Each error is one line without control characters, and there is one at least: the text lacks much.
fn check_errors(text: &str) -> Result<(), TestCaseError> {
    let errors = Config::parse(text, "a", &machine(&[0, 1])).unwrap_err();
    prop_assert!(!errors.is_empty());
    for error in errors.iter() {
        prop_assert!(!error.to_string().contains(|c: char| c.is_control()), "{}", error);
        prop_assert!((1..=text.matches('\n').count() + 1).contains(&error.line));
    }
    Ok(())
}

#[test]
fn s_25_tenants_have_equal_prefixes_routes_and_servers() {
    let site = |vlan: u16, tenant: &str| {
        format!(
            r#"
[[interface]]
name = "lan{vlan}"
nic_port = "lan0"
vlan = {vlan}
side = "internal"
{tenant}
addresses = ["10.0.0.1/24"]

[[route]]
prefix = "10.1.0.0/16"
via = "10.0.0.254"
interface = "lan{vlan}"

[[nat.rule]]
internal = "10.0.0.0/24"
{tenant}
pool = "public"

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.10:{vlan}"
internal = "10.1.0.9:21"
{tenant}
"#
        )
    };
    let text = format!(
        r#"
[[nic_port]]
name = "lan0"
device = {{ driver = "null" }}

[[interface]]
name = "wan"
nic_port = "lan0"
side = "external"
addresses = ["203.0.113.2/24"]

[[nat.pool]]
name = "public"
addresses = ["203.0.113.10"]
{}{}{}"#,
        site(10, "tenant = 10"),
        site(20, "tenant = 20"),
        site(30, "")
    );
    let config = Config::parse(&text, "algate.toml", &machine(&[0, 1])).unwrap();
    assert_eq!(
        config.interfaces.iter().map(|interface| interface.tenant).collect::<Vec<_>>(),
        [0, 10, 20, 0]
    );
    assert_eq!(config.routes.iter().map(|route| route.interface).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        config.nat.rules.iter().map(|rule| rule.tenant).collect::<Vec<_>>(),
        [Some(10), Some(20), None]
    );
    assert_eq!(config.nat.forwards.iter().map(|forward| forward.tenant).collect::<Vec<_>>(), [10, 20, 0]);
    assert_eq!(Config::parse(&config.to_toml(), "printed", &machine(&[0, 1])).unwrap(), config);
}
