//! Port control with real clients: natpmpc, and PCP as a program of a few lines would speak it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::process::{Child, Stdio};

use lab::{Lab, PATIENCE, Side, wait_until};

/// A lab whose internal hosts may ask, and a service inside that says hello on TCP 8000.
fn with_service() -> Option<(Lab, Child)> {
    let mut lab = Lab::up()?;
    let config = lab.config(&[]) + "\n[pcp]\nenabled = true\n";
    lab.start_from(&config);
    let service = lab
        .command(Side::In, "socat")
        .args(["-U", "TCP-LISTEN:8000,fork,reuseaddr", "SYSTEM:echo hello"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    lab.wait_for_listener(Side::In, 8_000);
    Some((lab, service))
}

fn end(mut lab: Lab, mut service: Child) {
    let _ = service.kill();
    let _ = service.wait();
    lab.stop();
}

/// What the external host reads from an endpoint; `None`: it cannot connect.
fn read_from_outside(lab: &Lab, endpoint: &str) -> Option<String> {
    let target = format!("TCP:{endpoint},connect-timeout=2");
    let output = lab.run(Side::Ex, "socat", &["-u", &target, "-"]);
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The external endpoints of explicit mappings.
fn explicit(lab: &Lab) -> Vec<String> {
    let rows = lab.show("mappings");
    let explicit = rows.iter().filter(|row| row["filtering"].as_str() == Some("explicit"));
    explicit.map(|row| row["external"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn p_06_natpmpc_opens_a_port_that_a_host_outside_uses() {
    let Some((lab, service)) = with_service() else { return };
    let natpmpc = |arguments: &[&str]| {
        let all = [&["-g", "10.0.0.1"][..], arguments].concat();
        lab.expect(Side::In, "natpmpc", &all)
    };
    let text = natpmpc(&["-a", "18000", "8000", "tcp", "3600"]);
    assert!(text.contains("Mapped public port 18000 protocol TCP to local port 8000"), "{text}");
    let endpoints = explicit(&lab);
    let [endpoint] = endpoints.as_slice() else { panic!("{endpoints:?}") };
    let (address, l4_port) = endpoint.split_once(':').unwrap();
    assert!(text.contains(&format!("Public IP address : {address}")), "{text}");
    assert_eq!(l4_port, "18000");

    natpmpc(&["-a", "0", "8000", "tcp", "0"]);
    assert!(wait_until(PATIENCE, || explicit(&lab).is_empty()));
    assert_eq!(read_from_outside(&lab, endpoint), None);
    natpmpc(&["-a", "18000", "8000", "tcp", "3600"]);
    assert_eq!(read_from_outside(&lab, endpoint).as_deref(), Some("hello\n"));
    end(lab, service);
}

#[test]
fn p_01_a_pcp_client_opens_a_port_and_p_05_nobody_outside_does() {
    let Some((lab, service)) = with_service() else { return };
    let answer = lab.expect(Side::In, "python3", &["-c", CLIENT, "10.0.0.2", "10.0.0.1", "8000"]);
    let words: Vec<&str> = answer.split_whitespace().collect();
    let ["0", "3600", endpoint] = words.as_slice() else { panic!("{answer}") };
    assert_eq!(explicit(&lab), [*endpoint]);
    assert_eq!(read_from_outside(&lab, endpoint).as_deref(), Some("hello\n"));

    let answer = lab.expect(Side::Ex, "python3", &["-c", CLIENT, "203.0.113.2", "203.0.113.1", "8000"]);
    assert_eq!(answer.trim(), "silence");
    assert_eq!(explicit(&lab).len(), 1);
    end(lab, service);
}

/// Sends a MAP request for a TCP port and prints result, lifetime and external endpoint.
const CLIENT: &str = r#"
import ipaddress, os, socket, struct, sys
host, server, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
mapped = lambda address: ipaddress.IPv6Address("::ffff:" + address).packed
request = struct.pack("!BBHI", 2, 1, 0, 3600) + mapped(host)
request += os.urandom(12) + struct.pack("!B3xHH", 6, port, 0) + mapped("0.0.0.0")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((host, 0))
udp.connect((server, 5351))
for wait in (1, 1, 1):
    udp.settimeout(wait)
    udp.send(request)
    try:
        answer = udp.recv(1100)
    except (TimeoutError, ConnectionRefusedError):
        continue
    lifetime, = struct.unpack_from("!I", answer, 4)
    external = ipaddress.IPv4Address(answer[56:60])
    print(answer[3], lifetime, "%s:%d" % (external, *struct.unpack_from("!H", answer, 42)))
    break
else:
    print("silence")
"#;
