//! Why a packet died: every reason declared once, with the operator's words.

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Why a packet was dropped. Each has a counter of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name in counters and logs.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

drop_reasons! {
    // Parsing.
    /// Shorter than its headers say.
    Truncated = "truncated",
    /// IPv4 version, header length or total length are impossible.
    BadIpv4Header = "bad_ipv4_header",
    /// IPv4 header checksum is wrong (RFC 1812 section 5.2.2).
    BadIpv4Checksum = "bad_ipv4_checksum",
    /// TCP or UDP header lengths are impossible.
    BadL4Header = "bad_l4_header",
    /// Headers lie in several segments and do not fit into one.
    ChainedHeaders = "chained_headers",
    /// IPv6: not yet supported.
    Ipv6 = "ipv6",
    /// An EtherType other than IPv4, IPv6 and ARP.
    UnknownEthertype = "unknown_ethertype",
    /// A VLAN that no interface of the port has.
    UnknownVlan = "unknown_vlan",
    /// Sent to another station's MAC address.
    NotForUs = "not_for_us",
    /// An IPv4 unicast packet in a link-layer broadcast or multicast frame (RFC 1812 section 5.3.4).
    LinkBroadcast = "link_broadcast",
    /// A protocol other than TCP, UDP and ICMP that no NAT rule names.
    UnsupportedProtocol = "unsupported_protocol",
    /// Source address that no packet may carry (RFC 1812 section 5.3.7).
    MartianSource = "martian_source",
    /// Destination address that is not forwarded (multicast, broadcast, loopback).
    MartianDestination = "martian_destination",

    // Fragments.
    /// The first fragment does not hold the whole L4 header, or a later one would hide it (RFC 1858, RFC 3128).
    FragmentTiny = "fragment_tiny",
    /// A fragment without data, or one that is not the last and no multiple of 8 bytes long.
    FragmentBadLength = "fragment_bad_length",
    /// A fragment that ends beyond the 65,535 bytes of the largest packet.
    FragmentOverflow = "fragment_overflow",
    /// Fragments of the same datagram overlap, or disagree about its end: the whole datagram dies.
    FragmentOverlap = "fragment_overlap",
    /// A fragment that had come already.
    FragmentDuplicate = "fragment_duplicate",
    /// The datagram has more than 64 fragments.
    FragmentTooMany = "fragment_too_many",
    /// Its source has as many fragments or datagrams waiting as it may.
    FragmentSourceLimit = "fragment_source_limit",
    /// The table of fragmented datagrams is full, or no more frames may be kept.
    FragmentTableFull = "fragment_table_full",
    /// It waited for the rest of its datagram, which did not come in time.
    FragmentTimeout = "fragment_timeout",
    /// The first fragment of its datagram was refused, or their session has ended.
    FragmentRefused = "fragment_refused",
    /// A fragment of an ICMP error, which is never so long.
    FragmentIcmpError = "fragment_icmp_error",
    /// The datagram must be read whole and does not fit into one frame.
    FragmentTooLong = "fragment_too_long",

    // Routing.
    /// No route to the destination.
    NoRoute = "no_route",
    /// TTL ran out.
    TtlExceeded = "ttl_exceeded",
    /// Larger than the outgoing MTU with DF set.
    FragmentationNeeded = "fragmentation_needed",
    /// An ICMP message larger than the outgoing MTU with DF set: nobody is told.
    TooBig = "too_big",
    /// The next hop did not answer ARP.
    NeighborUnreachable = "neighbor_unreachable",
    /// Too many packets wait for ARP.
    NeighborQueueFull = "neighbor_queue_full",
    /// The table of neighbours is full.
    NeighborTableFull = "neighbor_table_full",
    /// An ARP packet that is malformed or comes from outside the connected prefix.
    BadArp = "bad_arp",
    /// Another host claims an address of algate's own.
    AddressConflict = "address_conflict",
    /// Addressed to algate itself, and nothing listens.
    LocalUnhandled = "local_unhandled",
    /// A wrong checksum in a packet that algate itself had to read.
    BadL4Checksum = "bad_l4_checksum",
    /// An ICMP message that is malformed or belongs to no session.
    BadIcmp = "bad_icmp",

    /// An ICMP message that no host needs any more: source quench, redirect.
    IcmpObsolete = "icmp_obsolete",
    /// An ICMP error about a TCP segment that is not on its way (RFC 5927).
    IcmpOutOfWindow = "icmp_out_of_window",
    /// "Fragmentation needed" for a link that IPv4 does not allow, below 68 bytes.
    IcmpTinyMtu = "icmp_tiny_mtu",
    /// More ICMP errors about one session than hosts and routers send.
    IcmpErrorRate = "icmp_error_rate",

    // Filter.
    /// A source that cannot be where the packet came from: forged, or routed asymmetrically.
    SpoofedSource = "spoofed_source",
    /// A filter rule denies it.
    FilterDeny = "filter_deny",
    /// A filter rule rejects it; its sender is told, within the rate limit.
    FilterReject = "filter_reject",

    // NAT.
    /// From outside, and no session, mapping, forward or expectation admits it.
    NoMapping = "no_mapping",
    /// No NAT rule covers this internal source.
    NoNatRule = "no_nat_rule",
    /// A TCP segment without SYN that belongs to no session.
    TcpNoSession = "tcp_no_session",
    /// A RST whose numbers its sender would not use (RFC 5961).
    TcpRstOutOfWindow = "tcp_rst_out_of_window",
    /// An SCTP packet that is no INIT and belongs to no association.
    SctpNoAssociation = "sctp_no_association",
    /// An SCTP control chunk whose verification tag its sender would not use (RFC 9260 section 8.5).
    SctpBadTag = "sctp_bad_tag",
    /// A fragment of an SCTP packet whose checksum would have to change.
    SctpFragment = "sctp_fragment",
    /// An IP authentication header, which covers the addresses that a NAT rule would change.
    AhTranslated = "ah_translated",
    /// Another internal host speaks this protocol with the same remote host from the same external address.
    AddressInUse = "address_in_use",
    /// Another session has one of its two flows, translated in another way.
    FlowInUse = "flow_in_use",
    /// No external L4 port is free.
    PoolExhausted = "pool_exhausted",
    /// The session table is full.
    SessionTableFull = "session_table_full",
    /// As many sessions as may be TCP or SCTP ones are in use (tables.tcp_sessions).
    TcpTableFull = "tcp_table_full",
    /// As many sessions as may belong to an ALG, or be between two internal hosts, are in use (tables.related_sessions).
    RelatedTableFull = "related_table_full",
    /// As many TCP and SCTP sessions are half-open as may be.
    HalfOpenFull = "half_open_full",
    /// The mapping table is full.
    MappingTableFull = "mapping_table_full",
    /// The table of internal hosts is full.
    SubscriberTableFull = "subscriber_table_full",
    /// The internal host has as many sessions as it may have.
    QuotaSessions = "quota_sessions",
    /// The internal host has as many external ports as it may have.
    QuotaPorts = "quota_ports",
    /// The internal host opens sessions faster than it may.
    QuotaRate = "quota_rate",
    /// The internal host's sessions and mappings take as much memory as they may.
    QuotaMemory = "quota_memory",
    /// The mapping and its sessions take as much memory as they may.
    QuotaMappingMemory = "quota_mapping_memory",
    /// The peer is not the one the expectation names.
    ExpectationPeer = "expectation_peer",

    // Port control.
    /// Neither PCP nor NAT-PMP, or a response.
    PcpMalformed = "pcp_malformed",
    /// More requests than are answered.
    PcpRateLimited = "pcp_rate_limited",
    /// Another worker is changing the same mapping; the client asks again.
    PcpBusy = "pcp_busy",

    // ALG stage.
    /// The queue to the owner of an ALG flow or of a fragmented datagram is full.
    HandoverQueueFull = "handover_queue_full",
    /// The ALG stage has no room for the segment; TCP sends it again.
    AlgStageFull = "alg_stage_full",
    /// Its numbers fit no state of its ALG session.
    AlgBadSegment = "alg_bad_segment",
    /// An ALG took the datagram out, or ended its session.
    AlgRemoved = "alg_removed",
    /// The datagram, as its ALG rewrote it, does not fit into a frame.
    AlgTooLong = "alg_too_long",

    // Memory and transmission.
    /// No room in front of the packet for the headers it needs.
    NoHeadroom = "no_headroom",
    /// The mempool is empty.
    MempoolExhausted = "mempool_exhausted",
    /// The transmit queue is full.
    TxQueueFull = "tx_queue_full",
}
