//! FTP as people use it: three servers and four clients, in every mode, on both sides of the NAT. Each run takes every
//! server and every client once; `ALGATE_LAB=full` takes each with each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lab;

use std::fs;

use lab::ftp_clients::{Client, use_server};
use lab::{FORWARDED, Lab, SERVER, Side, is_full, is_of_pool};

const SERVERS: [&str; 3] = ["vsftpd", "pure-ftpd", "proftpd"];

/// A control session that has ended keeps its place for the time that TCP wants (RFC 5382 REQ-5), four minutes; the full
/// run opens one for each file.
const ALG_FLOWS: &str = "alg_flows=512";

#[test]
fn clients_inside_fetch_store_and_list() {
    let everyday = [Client::Ncftp, Client::Lftp, Client::Tnftp];
    for (server, client) in SERVERS.into_iter().zip(everyday) {
        let Some(mut lab) = Lab::up() else { return };
        lab.serve(Side::Ex, server);
        lab.start(&[ALG_FLOWS]);
        for client in chosen(client) {
            for &mode in client.modes() {
                eprintln!("{server} {client:?} {mode:?}");
                use_server(&lab, Side::In, client, mode, sizes());
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
                eprintln!("{server} {client:?} {mode:?}");
                use_server(&lab, Side::Ex, client, mode, sizes());
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
            eprintln!("proftpd {client:?} {mode:?}");
            use_server(&lab, Side::In, client, mode, sizes());
        }
    }
    assert!(lab.counter("handed_over") > 0, "the ALG core had nothing to do");
    lab.stop();
}

/// Of each direction one that takes many segments, and one that takes one.
fn sizes() -> &'static [u64] {
    if is_full() { &[500_000, 1] } else { &[50_000, 1_000] }
}

/// One client for every day, all of them in the full run.
fn chosen(everyday: Client) -> Vec<Client> {
    if is_full() { Client::ALL.to_vec() } else { vec![everyday] }
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
