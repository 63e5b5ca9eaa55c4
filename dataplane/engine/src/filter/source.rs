//! Anti-spoofing: may a packet with this source have come in here?
//!
//! RFC 2827 and RFC 3704 section 2.2 (strict reverse path) on internal interfaces, from whose hosts forged
//! sources would go out into the world or take mappings in another's name; without the interface's
//! source_check it is enough that the way back leads inside. On external interfaces the reverse: a source
//! that is internal is a lie. algate's own and its pools' addresses send from neither side.
//!
//! Inside and outside are what the interface's tenant sees of them: the world may use a tenant's addresses.
//!
//! Judged on the first packet of a flow; packets of a session must come from the session's side.

use algate_config::Side;

use crate::router::Router;
use crate::router::interface::Interface;
use crate::router::route::Hop;

/// Whether `source`, to which the way `back` leads, cannot have sent what arrived on `interface`. One binary search.
#[inline]
#[must_use]
pub fn is_spoofed(router: &Router, interface: &Interface, source: u32, back: Option<Hop>) -> bool {
    let tenant = interface.tenant;
    if router.interfaces.is_own(tenant, source) || router.is_nat_address(source) {
        return true;
    }
    let back = back.map(|hop| hop.interface);
    let leads_inside = back.and_then(|back| router.interfaces.side_of(back)) == Some(Side::Internal);
    match interface.side {
        Side::Internal => !leads_inside || (interface.source_check && back != Some(interface.id)),
        Side::External => leads_inside,
    }
}
