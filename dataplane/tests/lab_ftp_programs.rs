//! FTP as people use it: three servers and four clients, in every mode, on both sides of the NAT. Each run takes every
//! server and every client once; `ALGATE_LAB=full` takes each with each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;

use lab::capture::{Capture, assert_nothing_internal, lines_beginning};
use lab::ftp::Mode;
use lab::ftp_clients::{Client, Task};
use lab::{FORWARDED, Lab, SERVER, Side, assert_same, is_full, is_of_pool, write_random};

const SERVERS: [&str; 3] = ["vsftpd", "pure-ftpd", "proftpd"];

/// A control session that has ended keeps its place for the time that TCP wants (RFC 5382 REQ-5), four minutes; the full
/// run opens one for each file.
const ALG_FLOWS: &str = "alg_flows=512";

const KILOBYTE: u64 = 1_000;

#[test]
fn clients_inside_fetch_store_and_list() {
    let everyday = [Client::Ncftp, Client::Lftp, Client::Tnftp];
    for (server, client) in SERVERS.into_iter().zip(everyday) {
        let Some(mut lab) = Lab::up() else { return };
        lab.serve(Side::Ex, server);
        lab.start(&[ALG_FLOWS]);
        for client in chosen(client) {
            for &mode in client.modes() {
                use_server(&lab, Side::In, server, client, mode);
            }
        }
        let sources = sources_of_transfers(&lab, Side::Ex);
        assert!(sources.iter().all(|source| is_of_pool(source.parse::<std::net::Ipv4Addr>().unwrap())));
        lab.stop();
    }
}

#[test]
fn clients_outside_fetch_store_and_list_behind_a_port_forward() {
    let everyday = [Client::Lftp, Client::Curl, Client::Ncftp];
    for (server, client) in SERVERS.into_iter().zip(everyday) {
        let Some(mut lab) = Lab::up() else { return };
        lab.serve(Side::In, server);
        let forward = format!(
            "\n[[nat.forward]]\nprotocol = \"tcp\"\nexternal = \"{FORWARDED}:21\"\ninternal = \"10.0.0.2:21\"\n"
        );
        let config = lab.config(&[ALG_FLOWS]) + &forward;
        lab.start_from(&config);
        for client in chosen(client) {
            for &mode in client.modes() {
                use_server(&lab, Side::Ex, server, client, mode);
            }
        }
        let sources = sources_of_transfers(&lab, Side::In);
        assert!(sources.iter().all(|source| source == SERVER), "{sources:?}");
        lab.stop();
    }
}

#[test]
fn clients_inside_reach_a_server_with_an_alg_core() {
    let Some(mut lab) = Lab::up() else { return };
    lab.serve(Side::Ex, "proftpd");
    lab.start(&["cores=[0]", "alg_cores=[1]", ALG_FLOWS]);
    for client in chosen(Client::Lftp) {
        for &mode in client.modes() {
            use_server(&lab, Side::In, "proftpd", client, mode);
        }
    }
    assert!(lab.counter("handed_over") > 0, "the ALG core had nothing to do");
    lab.stop();
}

/// One client for every day, all of them in the full run.
fn chosen(everyday: Client) -> Vec<Client> {
    if is_full() { Client::ALL.to_vec() } else { vec![everyday] }
}

/// Fetches a file, stores one and lists; the server is on the other side. Every data connection must have been announced
/// in this mode, and outside with external endpoints only.
fn use_server(lab: &Lab, side: Side, server: &str, client: Client, mode: Mode) {
    eprintln!("{server} {client:?} {mode:?}");
    let (host, other) = if side == Side::In { (SERVER, Side::Ex) } else { (FORWARDED, Side::In) };
    let (remote, local) = (lab.home(other).join("file"), lab.state.join("file"));
    let capture = Capture::start(lab, Side::Ex);
    let sizes = if is_full() { [500 * KILOBYTE, 1] } else { [50 * KILOBYTE, KILOBYTE] };
    for bytes in sizes {
        for task in [Task::Fetch(&local), Task::Store(&local)] {
            for old in [&remote, &local] {
                let _ = fs::remove_file(old);
            }
            write_random(if matches!(task, Task::Fetch(_)) { &remote } else { &local }, bytes);
            client.run(lab, side, host, mode, task);
            assert_same(&remote, &local);
        }
    }
    let names = client.run(lab, side, host, mode, Task::List);
    assert!(names.contains("file"), "{server} {client:?} {mode:?} lists {names:?}");
    let frames = capture.frames();
    assert_nothing_internal(&frames);
    let announcements = announcements(&frames, side, mode);
    assert_eq!(announcements.len(), 5, "{server} {client:?} {mode:?} announced {announcements:?}");
}

/// The lines that announced a data connection in this mode, as they were seen outside: with an address of the pool if who
/// announces is inside, else with the address that it has.
fn announcements(frames: &[Vec<u8>], client: Side, mode: Mode) -> Vec<String> {
    let is_active = matches!(mode, Mode::Port | Mode::Eprt);
    let beginning = match mode {
        Mode::Port => "PORT ",
        Mode::Eprt => "EPRT |1|",
        Mode::Pasv => "227 ",
        Mode::Epsv => "229 ",
    };
    let is_right = |line: &String| {
        let names_the_host_outside =
            line.replace(',', ".").contains("203.0.113.2.") || line.contains("203.0.113.2|");
        mode == Mode::Epsv || names_the_host_outside == (is_active == (client == Side::Ex))
    };
    lines_beginning(frames, beginning).into_iter().filter(is_right).collect()
}

/// Who fetched or stored, in the words of the server's own log.
fn sources_of_transfers(lab: &Lab, server: Side) -> Vec<String> {
    let log = lab.home(server).parent().unwrap().join("transfers");
    let text = fs::read_to_string(log).unwrap();
    // Five words of a date, seconds, who.
    let sources: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().nth(6)).map(str::to_owned).collect();
    assert!(sources.len() >= 8, "{text}");
    sources
}
