//! A table of broken configs (`broken.txt`) with the exact text of every error.
//!
//! Each row edits one valid config: `==` names the row, `-` takes a line of [`BASE`] out, the `+`
//! lines after it take its place (without a `-` they go to the end), and each `!` is one error.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use algate_config::{Config, Machine};

const BASE: &str = r#"[workers]
cores = [1]

[[nic_port]]
name = "lan0"
device = { driver = "af_packet", interface = "veth0" }

[[nic_port]]
name = "wan0"
device = { driver = "af_packet", interface = "veth1" }

[[interface]]
name = "lan"
nic_port = "lan0"
side = "internal"
addresses = ["10.0.0.1/24"]

[[interface]]
name = "wan"
nic_port = "wan0"
side = "external"
addresses = ["203.0.113.1/24"]

[[route]]
prefix = "0.0.0.0/0"
via = "203.0.113.254"

[[nat.pool]]
name = "public"
addresses = ["203.0.113.10-203.0.113.20"]

[[nat.rule]]
internal = "10.0.0.0/24"
pool = "public"

[[nat.forward]]
protocol = "tcp"
external = "203.0.113.10:21"
internal = "10.0.0.9:21"
"#;

fn machine() -> Machine {
    let kernel_interfaces = ["lo", "veth0", "veth1"].map(String::from).to_vec();
    Machine { cores: vec![0, 1, 2, 3], kernel_interfaces: Some(kernel_interfaces) }
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, "algate.toml", &machine()).map_err(|errors| errors.to_string())
}

/// Applies a row's `-` and `+` lines to the base.
fn edit(row: &str) -> String {
    let mut lines: Vec<&str> = BASE.lines().collect();
    let mut at = lines.len();
    for change in row.lines().skip(1) {
        match change.split_at(1) {
            ("-", gone) => {
                at = lines.iter().position(|line| *line == gone).expect("the base has the line");
                lines.remove(at);
            }
            ("+", new) => {
                lines.insert(at, new);
                at += 1;
            }
            _ => {}
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn base_is_valid() {
    parse(BASE).unwrap();
}

#[test]
fn every_broken_config_is_refused_with_its_text() {
    let mut wrong = Vec::new();
    let rows = include_str!("broken.txt").split("== ").skip(1);
    for row in rows {
        let expected: Vec<&str> = row.lines().filter_map(|line| line.strip_prefix('!')).collect();
        let found = parse(&edit(row)).map_or_else(|errors| errors, |_| "(accepted)".to_string());
        if found != expected.join("\n") {
            wrong.push(format!("== {}\n{found}", row.trim_end()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
