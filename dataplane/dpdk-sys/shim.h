/*
 * What bindgen reads: DPDK's headers, wrappers for DPDK's static inlines (which have no symbol to
 * link to), and the places of the mbuf fields that algate touches.
 *
 * Only wraps inlines: no branch, no state.
 */
#ifndef ALGATE_SHIM_H
#define ALGATE_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

/* Where the fields of an mbuf lie. Their nesting differs between DPDK releases, their names do not. */
enum shim_mbuf_offset {
	SHIM_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	SHIM_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	SHIM_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	SHIM_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	SHIM_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	SHIM_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	SHIM_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	SHIM_MBUF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
};

/* Flags, some of which DPDK writes as function-like macros, which bindgen cannot evaluate. */
enum shim_flag {
	SHIM_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK,
	SHIM_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD,
	SHIM_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD,
	SHIM_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK,
	SHIM_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD,
	SHIM_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD,
	SHIM_TX_IPV4 = RTE_MBUF_F_TX_IPV4,
	SHIM_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM,
	SHIM_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM,
	SHIM_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM,
	SHIM_RX_OFFLOAD_CKSUM = RTE_ETH_RX_OFFLOAD_CHECKSUM,
	SHIM_TX_OFFLOAD_CKSUM =
		RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM,
	SHIM_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
	SHIM_RSS_IPV4 = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_TCP |
		RTE_ETH_RSS_NONFRAG_IPV4_UDP,
};

uint16_t shim_rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t shim_rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
struct rte_mbuf *shim_rte_pktmbuf_alloc(struct rte_mempool *pool);
void shim_rte_pktmbuf_free(struct rte_mbuf *mbuf);
int shim_rte_pktmbuf_linearize(struct rte_mbuf *mbuf);
int shim_rte_pktmbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
uint64_t shim_rte_rdtsc(void);
int shim_rte_errno(void);
uint16_t shim_link_status(const struct rte_eth_link *link);
uint32_t shim_link_speed(const struct rte_eth_link *link);

#endif
