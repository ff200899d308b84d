//! The capacity of every table, queue and buffer of the sensor, with its unit and reason.
//!
//! What does not fit is turned away and counted where it is turned away.

/// Flows an inspection keeps apart. An entry takes 104 bytes, so a full table takes about 120 MB,
/// which leaves room under the 200 MB that hostile input may make us use.
pub const FLOWS_MAX: usize = 1_000_000;

/// Distinct values (names, servers, flows) an inspection counts exactly: 8 bytes each, and as
/// much again while the set grows. Chosen by hand with `FLOWS_MAX`.
pub const DISTINCT_MAX: usize = 1_500_000;

/// VLAN tags, MPLS labels or IPv6 extension headers skipped before a packet is refused. Linux
/// sends at most a handful; the bound keeps hostile chains cheap. Chosen by hand.
pub const HEADER_CHAIN_MAX: usize = 16;

/// Tunnels opened inside each other. Chosen by hand: mirrors of overlays need three.
pub const TUNNEL_DEPTH_MAX: u8 = 6;

/// IP datagrams under reassembly at once.
pub const FRAGMENTED_DATAGRAMS_MAX: usize = 1024;

/// Bytes held for IP reassembly, all datagrams together.
pub const FRAGMENT_BYTES_MAX: usize = 8 << 20;

/// Fragments kept of one datagram: 64 KiB in pieces of the smallest IPv6 MTU, 1280, are 52; in
/// pieces of 576, 119. More than this is an attack on the reassembler.
pub const FRAGMENTS_PER_DATAGRAM_MAX: usize = 256;

/// Nanoseconds of packet time a datagram waits for its missing pieces: 30 s, the value of Linux
/// (`ipfrag_time`).
pub const FRAGMENT_WAIT_NS: u64 = 30_000_000_000;

/// TCP conversations followed at once. When as many again have been seen since, those that were
/// idle all the while are forgotten. Twice what just fits into a hash table of 32,768 places: one
/// more would take twice the memory.
pub const STREAMS_MAX: usize = 57_344;

/// As [`STREAMS_MAX`], of a live host: 160 bytes each, 5 MB when the tables are full, which is what a
/// flood of connections that say something may take.
pub const HOST_STREAMS_MAX: usize = 28_672;

/// Bytes held for TCP reassembly, all conversations together.
pub const STREAM_BYTES_MAX: usize = 16 << 20;

/// Bytes of out-of-order segments kept for one direction of a conversation: a receive window
/// without scaling.
pub const STREAM_PENDING_BYTES_MAX: usize = 64 << 10;

/// Out-of-order segments kept for one direction. Chosen by hand.
pub const STREAM_PENDING_SEGMENTS_MAX: usize = 64;

/// Nanoseconds of packet time that segments wait for one that is missing: 5 s, longer than a sender
/// takes to send it again twice (RFC 6298: 1 s, then 2 s).
pub const STREAM_WAIT_NS: u64 = 5_000_000_000;

/// Bytes of one direction looked at before a conversation that nothing recognised is left alone.
/// STARTTLS, CONNECT and SOCKS start TLS well within it. Chosen by hand.
pub const STREAM_WATCH_BYTES: u32 = 64 << 10;

/// Bytes a message of a stream may take before its decoder gives up: a DNS message over TCP
/// (RFC 1035 4.2.2) has at most 65,535 and two for its length.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 65_537;

/// QUIC connections whose ClientHello is awaited or was told lately.
pub const QUIC_CONNECTIONS_MAX: usize = 8_192;

/// Bytes held of QUIC ClientHellos, all connections together.
pub const QUIC_BYTES_MAX: usize = 8 << 20;

/// Bytes of one QUIC ClientHello. Those with post-quantum keys take two kilobytes; one that does
/// not fit into ten datagrams is none. Chosen by hand.
pub const QUIC_HELLO_BYTES_MAX: usize = 16 << 10;

/// Pieces of one QUIC ClientHello that do not touch each other. Clients that shuffle theirs make a
/// dozen. Chosen by hand.
pub const QUIC_PIECES_MAX: usize = 128;

/// Characters of a text that a protocol carries: hosts, paths, agents, logins. A wire message takes
/// as many.
pub const CONTENT_CHARS_MAX: usize = 1_024;

/// Bytes of the head of an HTTP request: what common servers take (8 to 16 KiB).
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;

/// Answers read from one DNS message. More than 4,000 do not fit into 64 KiB; a full zone
/// transfer message holds some hundreds.
pub const DNS_ANSWERS_MAX: usize = 1024;

/// Characters kept of the presentation of one DNS answer's data.
pub const DNS_DATA_CHARS_MAX: usize = 4096;

/// Flows the sensor keeps apart. An entry takes 112 bytes, so a full table takes 14 MB with its
/// index, which is of as many as a hash table of the next power of two holds. When it is full, its
/// flows are folded before their window is over: every two seconds at 50,000 new flows a second.
/// Chosen by hand, for the memory.
pub const SENSOR_FLOWS_MAX: usize = 114_688;

/// Nanoseconds without a packet after which the sensor forgets who opened a flow: 5 minutes, well
/// over the keep-alive of common clients. Chosen by hand.
pub const FLOW_IDLE_NS: u64 = 300_000_000_000;

/// Conversations in one summary; the contract is 10,000.
pub const CONVERSATIONS_PER_SUMMARY_MAX: usize = 16_384;

/// Conversations held while a window is open, so that the busiest can be kept: twice as many, 136
/// bytes each without what was said. Those that find no room are cut, and counted.
pub const CONVERSATIONS_FOLDED_MAX: usize = 32_768;

/// Grouped questions in one summary; the contract is 2,000 names.
pub const QUESTIONS_PER_SUMMARY_MAX: usize = 8_192;

/// Grouped questions held while a window is open, so that those asked most can be kept: as many as
/// a hash table of the next power of two holds, 7 MB of groups with their keys.
pub const QUESTION_GROUPS_MAX: usize = 14_336;

/// Bytes of names and answers held with the questions of one window. 2,000 names of the longest
/// kind take 2 MiB; the rest is for answers.
pub const QUESTION_TEXT_BYTES_MAX: usize = 8 << 20;

/// Characters of one answer kept in a summary: enough to see what a tunnel carries.
pub const ANSWER_CHARS_MAX: usize = 512;

/// Nanoseconds of packet time after which a question counts as unanswered: 5 s, when the resolver
/// library of Linux asks again (resolv.conf(5), `timeout`).
pub const DNS_WAIT_NS: u64 = 5_000_000_000;

/// DNS questions awaiting their response, about 100 bytes each; as many as a hash table of the next
/// power of two holds.
pub const DNS_AWAITED_MAX: usize = 28_672;

/// CNAME records followed from the name asked for to an address. Resolvers follow 8 to 16.
pub const CNAME_CHAIN_MAX: usize = 16;

/// Bytes of a TLS server name kept: a DNS name has at most 253 characters, escaped ones four for
/// each.
pub const TLS_NAME_BYTES_MAX: usize = 1_024;

/// Addresses remembered with the name that led to them, about 200 bytes each.
pub const NAMES_MAX: usize = 32_768;

/// Nanoseconds a name is remembered at least: clients hold on to addresses longer than the time to
/// live says. Ten minutes, chosen by hand.
pub const NAME_KEEP_NS: u64 = 600_000_000_000;

/// Nanoseconds a name is remembered at most without being used: one day, the bound that resolvers
/// put on the time to live (RFC 8767 section 4 speaks of days).
pub const NAME_KEEP_NS_MAX: u64 = 86_400_000_000_000;

/// Flows whose first messages are remembered, each as long as it goes on; about 400 bytes each,
/// more where much was said. When half as many are, those that are over make room: so 1,400 new
/// ones a second are remembered. As many as a hash table of the next power of two holds.
pub const SAID_FLOWS_MAX: usize = 28_672;

/// Bytes a server of SSH sends, headers included, on a flow on which nobody gets in. Measured with OpenSSH
/// 9.2 on both ends: three attempts take 3.8 kB with the key exchange of today and six 3.2 kB with the one
/// before, while running `true` takes 5.1 and 4.1 kB, as a server tells all its keys to whoever is in.
pub const SSH_FAILED_BYTES_MAX: u64 = 4_000;

/// Bytes below which nobody tried to get in: a banner and an offer of algorithms take 1.1 kB, and those with the
/// key exchange 1.6 kB at least (measured alike). Who only looks whether the port answers stays below.
pub const SSH_ASKED_BYTES_MIN: u64 = 1_200;

/// Bytes from which on a flow that was over within [`SSH_QUICK_NS`] may have been a command that said nothing,
/// to a server of few keys: it counts neither way.
pub const SSH_QUICK_BYTES_MIN: u64 = 3_450;

/// One second: a refused password takes two, by the delay of Linux's PAM (`pam_faildelay`).
pub const SSH_QUICK_NS: u64 = 1_000_000_000;

/// Nanoseconds a request to the metadata service waits for its answer: 1 s. It answers within
/// milliseconds; common clients give up after one second.
pub const IMDS_WAIT_NS: u64 = 1_000_000_000;

/// Requests to the metadata service that wait for their answers. Chosen by hand.
pub const IMDS_WAITING_MAX: usize = 4_096;

/// Nanoseconds in which a question to a resolver of this host may lead to one to the network: 5 s,
/// after which the resolver library of Linux asks again (resolv.conf(5), `timeout`).
pub const ASKED_KEEP_NS: u64 = 5_000_000_000;

/// Names asked of resolvers of this host that are remembered in each of two generations of
/// [`ASKED_KEEP_NS`], about 300 bytes each: 1,600 a second. Chosen by hand.
pub const ASKED_NAMES_MAX: usize = 8_192;

/// Questions remembered of one such name: four processes, each for both kinds of addresses.
pub const ASKS_PER_NAME_MAX: usize = 8;

/// Resolvers of this host that are remembered. A host has one or two.
pub const RESOLVERS_MAX: usize = 64;

/// Processes remembered, about 400 bytes each: twice what a busy build machine starts in a window.
pub const PROCESSES_MAX: usize = 16_384;

/// Processes told apart in one conversation; there are at least so many when it says this.
pub const PROCESSES_PER_CONVERSATION_MAX: usize = 16;

/// Hits told in one window whatever they are. A wire message takes as many.
pub const HITS_PER_WINDOW_MAX: usize = 16_384;

/// Hits told in one window when there are more: as many again, of indicators, processes and hosts
/// that were not told before in it. Some 15 MB, if nobody took them until its end.
pub const HITS_TOLD_MAX: usize = 2 * HITS_PER_WINDOW_MAX;

/// Hits that wait for the next window, as theirs has told all it may.
pub const HITS_LATE_MAX: usize = HITS_PER_WINDOW_MAX;

/// Events of orders to block that wait to be told; they wait for one turn of the caller's loop. As
/// many as orders in a bundle, so that all of one can come into force at once.
pub const BLOCKS_PENDING_MAX: usize = 16_384;

/// Flows, and names asked for, that are remembered as having told of a hit.
pub const HITS_REMEMBERED_MAX: usize = 65_536;

/// Summaries that wait to be taken. The caller takes them after each call that feeds the sensor;
/// no call makes more than four.
pub const OUTPUTS_MAX: usize = 8;
