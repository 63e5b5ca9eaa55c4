//! The engine as a whole: frames in, frames out, in virtual time.
//!
//! Packets are built and judged by etherparse and by the checksum in `common`, never by the engine's own
//! code. Names begin with the id of the requirement they prove, where there is one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod alg_keepalive;
mod alg_leave;
mod alg_limits;
mod alg_nat;
mod alg_open;
mod alg_policy;
mod alg_rules;
mod common;
mod events;
mod fast_path;
mod filter;
mod hostile;
mod nat_balance;
mod nat_expectation;
mod nat_forward;
mod nat_hairpin;
mod nat_icmp;
mod nat_limits;
mod nat_model;
mod nat_pool;
mod nat_race;
mod nat_static;
mod nat_tcp;
mod nat_twice;
mod nat_udp;
mod other_protocols;
mod pcp;
mod rows_attacks;
mod rows_icmp;
mod rows_tcp;
mod rows_timers;
mod rows_udp;
#[cfg(shuttle)]
mod shuttle_cycles;
mod sim_ftp;
mod sim_ftp_paths;
mod sim_ftp_unopened;
mod sim_hosts;
mod sim_irc;
mod sim_masquerade;
mod sim_pptp;
mod sim_rtsp;
mod sim_sip;
mod sim_sip_contacts;
mod sim_sip_dialogs;
mod sim_sip_early;
mod sim_sip_hold;
mod sim_sip_media;
mod sim_sip_owners;
mod sim_sip_stream;
mod sim_slipstream;
mod sim_tftp;
mod table_limits;
mod tenants;
