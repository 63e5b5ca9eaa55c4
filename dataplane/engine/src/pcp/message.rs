//! PCP on the wire (RFC 6887 sections 7, 11, 12, 13 and 14): requests in, responses out.
//!
//! ```text
//! request     version | R=0 opcode |   reserved    | lifetime (s) | client address (16)
//! response    version | R=1 opcode | 0 | result    | lifetime (s) | epoch (s) | 0 (12)
//! MAP         nonce (12) | protocol | 0 (3) | internal port | external port | external address (16)
//! PEER        as MAP, then remote port | 0 (2) | remote address (16)
//! option      code | 0 | length | data, padded to four bytes
//! ```
//!
//! Addresses are IPv4-mapped IPv6 addresses. Order of the checks, as section 8.2 has them: shorter than two
//! bytes or a response (silence), version, opcode, length, client address, options.
//!
//! Invariant: whatever the bytes, [`parse`] looks at each at most twice and never panics; what
//! [`Response::emit`] writes is a multiple of four bytes, at most [`MAX_BYTES`].

use crate::nat::key::Endpoint;

/// A request that is well formed and that the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub operation: Operation,
    /// For how long, seconds; 0 deletes.
    pub lifetime_seconds: u32,
    /// The options that matter.
    pub options: Options,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Nothing but the epoch.
    Announce,
    /// A mapping that every peer may use.
    Map(Target),
    /// A mapping for one peer.
    Peer(Target, Endpoint),
}

/// The internal endpoint of a request, and the external one it would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Proves, at renewal and deletion, that the same client asks.
    pub nonce: Nonce,
    /// IP protocol; 0: all.
    pub protocol: u8,
    /// Port of the client; 0: all.
    pub internal_port: u16,
    /// The external endpoint it would like; zeros: any.
    pub suggested: Endpoint,
}

/// 96 bits that a client chose at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nonce(pub [u8; 12]);

/// The options that were understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Rather no mapping than another than the suggested one (section 13.2).
    pub prefer_failure: bool,
    /// Whether the filters so far are to go, before those here are added (section 13.3: prefix length 0).
    pub clears_filters: bool,
    filters: [Filter; MAX_FILTERS],
    count: usize,
}

impl Options {
    /// The peers that may use the mapping; none: all.
    pub fn filters(&self) -> impl Iterator<Item = Filter> {
        self.filters.iter().take(self.count).copied()
    }

    fn add_filter(&mut self, filter: Filter) -> Result<(), ResultCode> {
        let free = self.filters.get_mut(self.count).ok_or(ResultCode::ExcessiveRemotePeers)?;
        *free = filter;
        self.count += 1;
        Ok(())
    }
}

/// Peers that may use a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Their addresses' common part.
    pub address: u32,
    /// How many bits of it, 0 to 32.
    pub prefix_length: u8,
    /// Their port; 0: any.
    pub l4_port: u16,
}

impl Filter {
    /// Whether a peer is one of them.
    #[must_use]
    pub fn admits(&self, peer: Endpoint) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0);
        (self.address ^ peer.address) & mask == 0 && (self.l4_port == 0 || self.l4_port == peer.l4_port)
    }
}

macro_rules! result_codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $text:literal, $lifetime:ident;)+) => {
        /// The result codes of RFC 6887 section 7.4.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum ResultCode {
            $($(#[doc = $doc])+ $name = $value,)+
        }

        impl ResultCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name in counters.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// How long the client should expect the same answer, seconds.
            const fn error_lifetime_seconds(self) -> u32 {
                match self {
                    $(Self::$name => $lifetime,)+
                }
            }
        }
    };
}

result_codes! {
    /// Done.
    Success = 0, "success", NO_ERROR_SECONDS;
    /// Another version of the protocol.
    UnsuppVersion = 1, "unsupp_version", LONG_ERROR_SECONDS;
    /// Not for this client, or not with this nonce.
    NotAuthorized = 2, "not_authorized", LONG_ERROR_SECONDS;
    /// Not as the RFC has it.
    MalformedRequest = 3, "malformed_request", LONG_ERROR_SECONDS;
    /// An unknown opcode.
    UnsuppOpcode = 4, "unsupp_opcode", LONG_ERROR_SECONDS;
    /// An unknown option that had to be understood.
    UnsuppOption = 5, "unsupp_option", LONG_ERROR_SECONDS;
    /// An option that is not as the RFC has it.
    MalformedOption = 6, "malformed_option", LONG_ERROR_SECONDS;
    /// The server's network is at fault.
    NetworkFailure = 7, "network_failure", SHORT_ERROR_SECONDS;
    /// The server's tables or ports are used up.
    NoResources = 8, "no_resources", SHORT_ERROR_SECONDS;
    /// A protocol that is not mapped.
    UnsuppProtocol = 9, "unsupp_protocol", LONG_ERROR_SECONDS;
    /// The subscriber has as many mappings as it may have.
    UserExQuota = 10, "user_ex_quota", SHORT_ERROR_SECONDS;
    /// The suggested external endpoint cannot be had, and no other is wanted.
    CannotProvideExternal = 11, "cannot_provide_external", SHORT_ERROR_SECONDS;
    /// Sent from another address than it says: there is another NAT on the way.
    AddressMismatch = 12, "address_mismatch", LONG_ERROR_SECONDS;
    /// More filters than the server keeps.
    ExcessiveRemotePeers = 13, "excessive_remote_peers", LONG_ERROR_SECONDS;
}

/// Why there is no request in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// It must not be answered: too short to be anything, or a response.
    Silence,
    /// It is answered with this code.
    Refused(ResultCode),
}

/// Reads a request of any version but NAT-PMP's that `source` sent.
///
/// # Errors
/// [`ParseError`]: how it is answered instead.
pub fn parse(bytes: &[u8], source: u32) -> Result<Request, ParseError> {
    let [version, opcode, ..] = *bytes else { return Err(ParseError::Silence) };
    if opcode & RESPONSE != 0 {
        return Err(ParseError::Silence);
    }
    read(bytes, source, version, opcode).map_err(ParseError::Refused)
}

fn read(bytes: &[u8], source: u32, version: u8, opcode: u8) -> Result<Request, ResultCode> {
    if version != VERSION {
        return Err(ResultCode::UnsuppVersion);
    }
    let body_bytes = body_bytes(opcode).ok_or(ResultCode::UnsuppOpcode)?;
    if bytes.len() > MAX_BYTES || !bytes.len().is_multiple_of(4) {
        return Err(ResultCode::MalformedRequest);
    }
    let malformed = ResultCode::MalformedRequest;
    let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(malformed)?;
    let (body, options) = rest.split_at_checked(body_bytes).ok_or(malformed)?;
    if ipv4_at(header, 8) != Some(source) {
        return Err(ResultCode::AddressMismatch);
    }
    let operation = match opcode {
        MAP => Operation::Map(target(body).ok_or(malformed)?),
        PEER => {
            let target = target(body).ok_or(malformed)?;
            let address = ipv4_at(body, MAP_BYTES + 4).ok_or(malformed)?;
            let peer = Endpoint::new(address, u16_at(body, MAP_BYTES).ok_or(malformed)?);
            if peer.l4_port == 0 || peer.address == 0 || target.protocol == 0 || target.internal_port == 0 {
                return Err(malformed);
            }
            Operation::Peer(target, peer)
        }
        _ => Operation::Announce,
    };
    let lifetime_seconds = u32_at(header, 4).ok_or(malformed)?;
    Ok(Request { operation, lifetime_seconds, options: read_options(options, opcode)? })
}

fn target(body: &[u8]) -> Option<Target> {
    let target = Target {
        nonce: Nonce(*body.first_chunk()?),
        protocol: *body.get(12)?,
        internal_port: u16_at(body, 16)?,
        // An address of another family cannot be had, so it is a wish for any.
        suggested: Endpoint::new(ipv4_at(body, 20).unwrap_or(0), u16_at(body, 18)?),
    };
    // All protocols have no port in common (section 11.1).
    (target.protocol != 0 || target.internal_port == 0).then_some(target)
}

fn read_options(mut rest: &[u8], opcode: u8) -> Result<Options, ResultCode> {
    let mut options = Options::default();
    while let Some(option) = next_option(rest)? {
        rest = option.after;
        let data = option.data;
        match option.code {
            PREFER_FAILURE if opcode == MAP => {
                // It carries nothing and is given once (section 13.2).
                if !data.is_empty() || options.prefer_failure {
                    return Err(ResultCode::MalformedOption);
                }
                options.prefer_failure = true;
            }
            FILTER if opcode == MAP => read_filter(data, &mut options)?,
            // THIRD_PARTY among them: nobody asks for another here.
            code if code & OPTIONAL == 0 => return Err(ResultCode::UnsuppOption),
            _ => {}
        }
    }
    Ok(options)
}

/// One option of a message.
struct RawOption<'a> {
    code: u8,
    data: &'a [u8],
    /// All of it: header, data and padding.
    whole: &'a [u8],
    /// What follows it.
    after: &'a [u8],
}

/// The option that `bytes` begin with; `None`: there is no more.
fn next_option(bytes: &[u8]) -> Result<Option<RawOption<'_>>, ResultCode> {
    let Some((header, rest)) = bytes.split_first_chunk::<OPTION_HEADER_BYTES>() else { return Ok(None) };
    let [code, _, high, low] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole_bytes = OPTION_HEADER_BYTES + length.next_multiple_of(4);
    let (whole, after) = bytes.split_at_checked(whole_bytes).ok_or(ResultCode::MalformedOption)?;
    let data = rest.get(..length).unwrap_or_default();
    Ok(Some(RawOption { code, data, whole, after }))
}

fn read_filter(data: &[u8], options: &mut Options) -> Result<(), ResultCode> {
    if data.len() != FILTER_BYTES {
        return Err(ResultCode::MalformedOption);
    }
    let malformed = ResultCode::MalformedOption;
    match *data.get(1).ok_or(malformed)? {
        // Those before it in the same request go, too.
        0 => {
            *options = Options {
                prefer_failure: options.prefer_failure,
                clears_filters: true,
                ..Options::default()
            };
            Ok(())
        }
        length @ MAPPED_PREFIX_BITS..=128 => options.add_filter(Filter {
            address: ipv4_at(data, 4).ok_or(malformed)?,
            prefix_length: length - MAPPED_PREFIX_BITS,
            l4_port: u16_at(data, 2).ok_or(malformed)?,
        }),
        _ => Err(malformed),
    }
}

/// What a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// How it went.
    pub result: ResultCode,
    /// Lifetime granted, seconds; an error has its own.
    pub lifetime_seconds: u32,
    /// Seconds since the server lost all mappings.
    pub epoch_seconds: u32,
    /// The external endpoint, for MAP and PEER.
    pub external: Option<Endpoint>,
}

impl Response {
    /// Writes the answer to `request` into `out` and returns its length. A success repeats the options that
    /// were processed, an error the whole request (section 8.3).
    #[must_use]
    pub fn emit(&self, request: &[u8], out: &mut [u8; MAX_BYTES]) -> usize {
        out.fill(0);
        let body_bytes = request.get(1).copied().and_then(body_bytes).unwrap_or(0);
        let fixed = HEADER_BYTES + body_bytes;
        let mut length = if self.result == ResultCode::Success { fixed } else { MAX_BYTES };
        length = copy(request.get(..length).unwrap_or(request), out, 0);
        if self.result == ResultCode::Success {
            let mut rest = request.get(fixed..).unwrap_or_default();
            while let Ok(Some(option)) = next_option(rest) {
                if [PREFER_FAILURE, FILTER].contains(&option.code) {
                    length = copy(option.whole, out, length);
                }
                rest = option.after;
            }
        }
        self.write_header(request.get(1).copied().unwrap_or(0), out);
        if let Some(external) = self.external {
            put(out, HEADER_BYTES + 18, &external.l4_port.to_be_bytes());
            put(out, HEADER_BYTES + 20, &mapped(external.address));
        }
        length.next_multiple_of(4).clamp(HEADER_BYTES, MAX_BYTES)
    }

    fn write_header(&self, opcode: u8, out: &mut [u8; MAX_BYTES]) {
        let lifetime = match self.result {
            ResultCode::Success => self.lifetime_seconds,
            error => error.error_lifetime_seconds(),
        };
        let Some(header) = out.first_chunk_mut::<HEADER_BYTES>() else { return };
        header.fill(0);
        header[0] = VERSION;
        header[1] = opcode | RESPONSE;
        header[3] = self.result as u8;
        header[4..8].copy_from_slice(&lifetime.to_be_bytes());
        header[8..12].copy_from_slice(&self.epoch_seconds.to_be_bytes());
    }
}

/// Copies `bytes` to `at`, as far as there is room, and returns where they end.
fn copy(bytes: &[u8], out: &mut [u8; MAX_BYTES], at: usize) -> usize {
    let room = out.get_mut(at..).unwrap_or_default();
    let count = bytes.len().min(room.len());
    for (to, from) in room.iter_mut().zip(bytes) {
        *to = *from;
    }
    at + count
}

fn put(out: &mut [u8; MAX_BYTES], at: usize, bytes: &[u8]) {
    let _end = copy(bytes, out, at);
}

/// How much follows the header; `None`: the opcode is unknown.
const fn body_bytes(opcode: u8) -> Option<usize> {
    match opcode {
        ANNOUNCE => Some(0),
        MAP => Some(MAP_BYTES),
        PEER => Some(PEER_BYTES),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|field| u16::from_be_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_be_bytes(*field))
}

/// An IPv4-mapped address; `None` for any other.
fn ipv4_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field: &[u8; 16] = bytes.get(at..)?.first_chunk()?;
    let address = u128::from_be_bytes(*field);
    (address >> 32 == 0xFFFF).then_some(address as u32)
}

fn mapped(address: u32) -> [u8; 16] {
    (0xFFFF_u128 << 32 | u128::from(address)).to_be_bytes()
}

/// Longest message (section 7).
pub const MAX_BYTES: usize = 1_100;
/// Filters that one request, and one mapping, may have.
pub const MAX_FILTERS: usize = 8;
/// The version of RFC 6887.
pub const VERSION: u8 = 2;

const HEADER_BYTES: usize = 24;
const MAP_BYTES: usize = 36;
const PEER_BYTES: usize = 56;
const OPTION_HEADER_BYTES: usize = 4;
const FILTER_BYTES: usize = 20;
/// Bits of an IPv4-mapped address before the IPv4 address.
const MAPPED_PREFIX_BITS: u8 = 96;
/// The R bit.
const RESPONSE: u8 = 0x80;
const ANNOUNCE: u8 = 0;
const MAP: u8 = 1;
const PEER: u8 = 2;
const PREFER_FAILURE: u8 = 2;
const FILTER: u8 = 3;
/// An option with this bit may be ignored.
const OPTIONAL: u8 = 0x80;
/// Section 7.4: errors that will stay.
const LONG_ERROR_SECONDS: u32 = 1_800;
/// Section 7.4: errors that may pass.
const SHORT_ERROR_SECONDS: u32 = 30;
const NO_ERROR_SECONDS: u32 = 0;

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
