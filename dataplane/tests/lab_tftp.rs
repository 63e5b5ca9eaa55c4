//! TFTP through the NAT: curl, tftp-hpa and atftp against in.tftpd and atftpd, both sides having the server once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;

use lab::capture::{Capture, assert_nothing_internal, udp_payload};
use lab::{FORWARDED, Lab, PATIENCE, SERVER, Side, assert_same, wait_until, write_random};

/// A client, and the options it asks for.
#[derive(Debug, Clone, Copy)]
enum Client {
    /// tftp-hpa: a request without options.
    Plain,
    /// curl: tsize, blksize of this many bytes, timeout.
    Curl(&'static str),
    /// atftp: tsize, blksize of this many bytes, and so many blocks in a row (RFC 7440).
    Atftp { block: &'static str, window: &'static str },
}

const CLIENTS: [Client; 5] = [
    Client::Plain,
    Client::Curl("512"),
    Client::Curl("1428"),
    Client::Atftp { block: "1024", window: "1" },
    Client::Atftp { block: "1428", window: "4" },
];

const SERVERS: [&str; 2] = ["tftpd", "atftpd"];

impl Client {
    /// The bytes of a block, as agreed on with a server that knows options.
    fn block_bytes(self) -> usize {
        match self {
            Self::Plain => 512,
            Self::Curl(block) | Self::Atftp { block, .. } => block.parse().unwrap(),
        }
    }
}

/// A lab with a server on one side and algate running.
fn with_server(side: Side, server: &str, tables: &str) -> Option<Lab> {
    let mut lab = Lab::up()?;
    lab.serve(side, server);
    let config = lab.config(&[]) + tables;
    lab.start_from(&config);
    Some(lab)
}

/// Fetches a file and stores another; compares both ends, and what an observer outside saw.
fn transfer(lab: &Lab, side: Side, client: Client, host: &str, server: Side) {
    let home = lab.home(server);
    let (got, put) = (lab.state.join("got"), lab.state.join("put"));
    let capture = Capture::start(lab, Side::Ex);
    // A multiple of all block sizes ends with an empty block; the other with a short one.
    for bytes in [512 * 357, 100_001] {
        for old in [&got, &put, &home.join("stored")] {
            let _ = fs::remove_file(old);
        }
        write_random(&home.join("file"), bytes);
        write_random(&put, bytes);
        let (got_name, put_name) = (got.to_str().unwrap(), put.to_str().unwrap());
        match client {
            Client::Plain => {
                let common = ["-m", "binary", host, "-c"];
                lab.expect(side, "tftp", &[&common[..], &["get", "file", got_name]].concat());
                lab.expect(side, "tftp", &[&common[..], &["put", put_name, "stored"]].concat());
            }
            Client::Curl(block) => {
                let common = ["--silent", "--show-error", "--max-time", "20", "--tftp-blksize", block];
                let (file, stored) = (format!("tftp://{host}/file"), format!("tftp://{host}/stored"));
                lab.expect(side, "curl", &[&common[..], &["--output", got_name, &file]].concat());
                lab.expect(side, "curl", &[&common[..], &["--upload-file", put_name, &stored]].concat());
            }
            Client::Atftp { block, window } => {
                let options = [format!("blksize {block}"), format!("windowsize {window}")];
                let mut common = vec!["--option", "tsize 0"];
                common.extend(options.iter().flat_map(|option| ["--option", option]));
                let fetch = ["--get", "--remote-file", "file", "--local-file", got_name, host];
                let store = ["--put", "--remote-file", "stored", "--local-file", put_name, host];
                lab.expect(side, "atftp", &[&common[..], &fetch].concat());
                lab.expect(side, "atftp", &[&common[..], &store].concat());
            }
        }
        assert_same(&home.join("file"), &got);
        // A server acknowledges the last block before it has written it.
        let stored = home.join("stored");
        let is_whole = || stored.metadata().is_ok_and(|file| file.len() == bytes);
        assert!(wait_until(PATIENCE, is_whole), "{client:?}: {:?} of {bytes} bytes", stored.metadata());
        assert_same(&put, &stored);
    }
    let frames = capture.frames();
    assert_nothing_internal(&frames);
    // Four bytes of opcode and number, and a block.
    let largest = frames.iter().filter_map(|frame| udp_payload(frame)).map(<[u8]>::len).max();
    assert_eq!(largest, Some(4 + client.block_bytes()), "{client:?}: the options were not agreed on");
}

#[test]
fn files_arrive_equal_both_ways_from_a_server_outside() {
    for server in SERVERS {
        let Some(mut lab) = with_server(Side::Ex, server, "\n[alg.tftp]\nenabled = true\n") else { return };
        for client in CLIENTS {
            eprintln!("{server} {client:?}");
            transfer(&lab, Side::In, client, SERVER, Side::Ex);
        }
        lab.stop();
    }
}

#[test]
fn under_narrow_filtering_the_alg_alone_lets_the_answer_in() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "tftpd");
    let rule = "pool = \"pool\"\n";
    let narrow = format!("{rule}filtering = \"address_and_port_dependent\"\n");
    let config = lab.config(&[]).replace(rule, &narrow);
    lab.start_from(&config);
    write_random(&lab.home(Side::Ex).join("file"), 1_000);
    let url = format!("tftp://{SERVER}/file");
    let arguments = ["--silent", "--max-time", "3", "--output", "/dev/null", &url];
    assert!(!lab.run(Side::In, "curl", &arguments).status.success(), "the answer came in without the ALG");
    lab.stop();
    lab.start_from(&(config + "\n[alg.tftp]\nenabled = true\n"));
    transfer(&lab, Side::In, Client::Plain, SERVER, Side::Ex);
    lab.stop();
}

#[test]
fn files_arrive_equal_both_ways_from_a_server_inside() {
    let forward = format!(
        "\n[alg.tftp]\nenabled = true\n[[nat.forward]]\nprotocol = \"udp\"\nexternal = \"{FORWARDED}:69\"\ninternal = \"10.0.0.2:69\"\n"
    );
    for server in SERVERS {
        let Some(mut lab) = with_server(Side::In, server, &forward) else { return };
        for client in CLIENTS {
            eprintln!("{server} {client:?}");
            transfer(&lab, Side::Ex, client, FORWARDED, Side::In);
        }
        lab.stop();
    }
}
