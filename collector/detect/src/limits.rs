//! The capacity of every table and queue of the collector's mind, with its unit and reason.
//!
//! What does not fit is turned away or replaces the oldest, and is counted either way.

/// Findings kept open at once. At 2 to 60 KB each, most of them at the lower end, 20,000 take about
/// 60 MB. Above it those that were quiet longest leave; they have been output by then.
pub const FINDINGS_MAX: usize = 20_000;

/// Events a finding keeps from its beginning (the contract in `docs/findings.md`).
pub const EVIDENCE_FIRST_MAX: usize = 100;

/// Events a finding keeps from its end (the same contract).
pub const EVIDENCE_LAST_MAX: usize = 100;

/// Events a finding keeps from between, each the first of its API, peer or name. Chosen by hand: a
/// person looks at tens of them, a program at the finding's count.
pub const EVIDENCE_DISTINCT_MAX: usize = 200;

/// Events kept as evidence by all open findings together: about 100 MB at 400 bytes each. Beyond it a
/// finding takes in its first [`EVIDENCE_ALWAYS`] events, and exchanges its last ones if it has them.
pub const EVIDENCE_MAX: usize = 250_000;

/// Events that every finding keeps, however many others there are. Chosen by hand: what a person reads
/// before deciding.
pub const EVIDENCE_ALWAYS: usize = 10;

/// Occurrences that one detection makes of one summary, where each may be another finding: several times what a
/// worm on a host makes in a minute, and few against what the findings have room for.
pub const OCCURRENCES_MAX: usize = 1_024;

/// Days a finding counts its occurrences by. A year and a month, twice what anyone keeps findings.
pub const FINDING_DAYS_MAX: usize = 400;

/// Issues that have been archived and may come again under the next ordinal.
pub const ARCHIVED_MAX: usize = 100_000;

/// Pairs of hosts with unanswered probes between them, whose ports are remembered. With
/// [`PROBED_PORTS_MAX`] full everywhere this is bounded by [`PROBES_MAX`].
pub const PROBING_PAIRS_MAX: usize = 32_768;

/// Ports remembered for one pair: a full scan of well-known ports, four times the ports that any
/// sensible threshold asks for.
pub const PROBED_PORTS_MAX: usize = 4_096;

/// Ports remembered for all pairs together, about 60 bytes each.
pub const PROBES_MAX: usize = 500_000;

/// Clients with a port that they try of others, told by one sensor each, whose hosts are remembered.
pub const REACHES_MAX: usize = 32_768;

/// The same of those who try hosts of an account from outside, which is what all scanners of the
/// Internet do.
pub const REACHES_FLEET_MAX: usize = 32_768;

/// Hosts remembered for one client and port: forty times what any threshold asks for.
pub const REACHED_HOSTS_MAX: usize = 1_024;

/// Hosts remembered for all clients and ports together, told by sensors: about 70 bytes each.
pub const REACHES_HOSTS_MAX: usize = 300_000;

/// The same, tried from outside: as many again would be 20 MB for what is mostly weather; a third.
pub const REACHES_FLEET_HOSTS_MAX: usize = 100_000;

/// Clients that try to log in at one service of a server, each remembered for hours: those of a botnet at
/// a fleet. 200 bytes each and 32 for each span of time with tries in it.
pub const GUESSING_MAX: usize = 65_536;

/// Spans of time with tries remembered of one of them: those of the longest window in spans of five
/// minutes, and one begun.
pub const GUESS_SPANS_MAX: usize = 73;

/// The same at each of many servers, in spans of half an hour.
pub const SPRAY_SPANS_MAX: usize = 13;

/// Servers remembered at which one client fails to log in: several times what any threshold asks for.
pub const SPRAYED_MAX: usize = 128;

/// Meetings with indicators remembered, so that one that both sides tell counts once: what 20,000
/// hosts with a meeting each leave behind in the minutes that agents may be apart.
pub const SIGHTINGS_MAX: usize = 65_536;

/// Sensors of which it is remembered for how many windows they have been blind or flooded: three
/// times the hosts one collector is made for.
pub const SENSORS_MAX: usize = 65_536;

/// Trails whose bucket is remembered. AWS allows five per region and account; this is enough for a
/// thousand accounts in a dozen regions.
pub const TRAILS_MAX: usize = 65_536;

/// Key pairs made, roles made mighty and providers changed within a day that are remembered, some two
/// hundred bytes each: a day of a thousand accounts that are set up by plan.
pub const LATELY_MAX: usize = 16_384;

/// Principals, groups of peers and accounts, each, of which it is known what is usual. With
/// [`BASELINE_VALUES_MAX`] full everywhere 4,096 principals take about 150 MB; a common one has tens of
/// values in all.
pub const BASELINES_MAX: usize = 4_096;

/// Values of one dimension that are known of one principal, group or account. Chosen by hand: a busy
/// deployment makes two hundred different calls.
pub const BASELINE_VALUES_MAX: usize = 512;

/// Temporary credentials of hosts, functions and tasks whose home is known: those of a day.
pub const HOMES_MAX: usize = 65_536;

/// Networks, and programs, known of one such credential.
pub const HOME_PLACES_MAX: usize = 8;

/// Windows in which different things are counted, one per rule and principal: 20,000 principals that each
/// do one thing worth counting in a day, 300 bytes and what they touched each.
pub const BURSTS_MAX: usize = 20_000;

/// Different things remembered in one such window: several times what any threshold asks for.
pub const BURST_THINGS_MAX: usize = 256;

/// Pairs of a role and of who takes it that are known, some 200 bytes each: what a thousand accounts with
/// sixty pairs each have.
pub const ROLE_TAKERS_MAX: usize = 65_536;

/// Callers whose denied calls of the last minutes are remembered.
pub const REFUSED_CALLERS_MAX: usize = 4_096;

/// Different denied calls remembered of one of them: several times what any threshold asks for.
pub const REFUSED_APIS_MAX: usize = 64;

/// Addresses that calls came from, some 150 bytes each: those of a month of 20,000 people.
pub const CALLER_ADDRESSES_MAX: usize = 65_536;

/// Principals remembered of one address: an office has more, and then says nothing.
pub const ADDRESS_CALLERS_MAX: usize = 8;

/// Principals whose signs of an attack are remembered for a day: few give any. With the two bounds below
/// full everywhere they take about 80 MB, at 400 bytes an event.
pub const SEQUENCES_MAX: usize = 1_024;

/// Signs remembered of one of them: several times what tells a sequence.
pub const SEQUENCE_SIGNS_MAX: usize = 48;

/// Events remembered of one sign, to go with a sequence when it is told.
pub const SEQUENCE_EVIDENCE_MAX: usize = 4;

/// Calls kept as evidence in one such window until there is something to report. Chosen by hand.
pub const BURST_EVIDENCE_MAX: usize = 16;

/// Accounts known by their trails: AWS allows 10,000 in an organisation at most (its quotas page).
pub const ACCOUNTS_MAX: usize = 10_000;

/// Principals and addresses whose infrastructure code is known.
pub const PLANNERS_MAX: usize = 4_096;

/// New users whose makers are remembered, for a day.
pub const MADE_MAX: usize = 16_384;

/// Instances whose launch and role calls are remembered.
pub const INSTANCES_MAX: usize = 50_000;

/// Distinct role calls (API and source address) remembered for one instance. A workload's role makes
/// tens; an intruder exploring makes about a hundred.
pub const INSTANCE_CALLS_MAX: usize = 128;

/// Findings named in one incident.
pub const INCIDENT_FINDINGS_MAX: usize = 256;

/// Addresses remembered for one instance: ENIs times addresses of the largest instance types, and
/// source addresses of its role.
pub const INSTANCE_ADDRESSES_MAX: usize = 64;

/// Runs of one agent whose chains are followed at once. A host that crashes more often while its
/// spool is still being shipped has other troubles. Chosen by hand.
pub const BOOTS_MAX: usize = 16;

/// Envelopes remembered per run, to tell a repeated one from a forged one and to take in late ones:
/// eleven hours of windows at 10 s.
pub const LINKS_MAX: usize = 4_096;

/// Gaps in chains that are held back for a while: one of each of 4,096 agents, some 300 bytes each.
/// Beyond that they are told at once. Chosen by hand.
pub const GAPS_HELD_MAX: usize = 4_096;

/// Bytes of text that a detection copies into a title or a description from an event.
pub const QUOTED_BYTES_MAX: usize = 256;

/// Databases of which it is known who usually logs in: more than an account may have (40 instances by default).
pub const DATABASES_MAX: usize = 4_096;

/// Users, networks, and users from networks and from hosts, known of one database, each. A server has tens of users and sees
/// a few networks. Where there are as many, nothing more is new.
pub const LOGIN_VALUES_MAX: usize = 512;

/// Addresses that were refused at a database within a day: those of a botnet.
pub const ATTEMPTS_MAX: usize = 32_768;

/// Refusals remembered of one address at one database: several times what any threshold asks for.
pub const ATTEMPTS_TOGETHER_MAX: usize = 128;

/// Refusals remembered in all, some 120 bytes each: about 25 MB.
pub const REFUSALS_MAX: usize = 200_000;

/// Hosts whose calls to the outside are followed: three times the hosts one collector is made for.
pub const CALLERS_MAX: usize = 65_536;

/// Of them those that one sensor tells of, half: a mirror may see a network of many hosts, but whoever
/// makes clients up leaves room for the others.
pub const CALLERS_PER_SENSOR_MAX: usize = CALLERS_MAX / 2;

/// Peers outside followed of one host: several times what a server calls. Beyond it those with fewest beats leave, so that a crawler loses none that it calls steadily.
pub const CALLEES_PER_HOST_MAX: usize = 256;

/// Beats remembered of one peer: with so many, one that waits up to 90 % more or less is told from chance.
pub const BEATS_MAX: usize = 128;

/// Beats remembered in all, 8 bytes each, where a peer weighs as much as [`SERIES_BEATS`]: 80 MB, those of
/// 10,000 hosts with six steady peers each, or of 400,000 peers that were called once.
pub const RHYTHM_BEATS_MAX: usize = 10_000_000;

/// What a peer takes besides its beats, in beats: some 200 bytes.
pub const SERIES_BEATS: usize = 24;

/// What may be held of one sensor's words, half: as its hosts.
pub const RHYTHM_PER_SENSOR_MAX: usize = RHYTHM_BEATS_MAX / 2;

/// Peers of which it is counted how many hosts call them, some 200 bytes each at most: 40 MB.
pub const CALLED_MAX: usize = 200_000;

/// Names, each with a network that DNS answers led to by it, some 60 bytes each: 12 MB.
pub const LED_MAX: usize = 200_000;

/// Hosts counted of one peer. More than any sensible setting asks for.
pub const CROWD_MAX: usize = 32;

/// Clients and fingerprints whose unresolved TLS names are remembered.
pub const HELLO_CLIENTS_MAX: usize = 16_384;

/// Names remembered of one of them: several times what any threshold asks for.
pub const HELLOS_MAX: usize = 32;

/// Programs known of one host to fetch secrets from the metadata service. A common host has three.
pub const FETCHERS_MAX: usize = 32;
/// Hosts of which it is remembered for an hour which mail servers they turned to.
pub const MAILERS_MAX: usize = 16_384;

/// Mail servers of each kind, and domains, remembered of one such host: several times what any threshold asks for.
pub const MAIL_SERVERS_MAX: usize = 64;

/// Minutes in which one such host began messages: those of the hour, and of the quarters of an hour around it
/// that packets may be dated in.
pub const MAIL_MINUTES_MAX: usize = 128;

/// Hosts with a sensor of which it is known what is usual on the network: three times the hosts one collector is
/// made for. A common one has a dozen ports and some tens of destinations: 8 KB, so 160 MB for 20,000.
pub const TRAFFICS_MAX: usize = 65_536;

/// Hosts without a sensor of which the same is known, told by mirrors and by hosts that pass traffic on: they take
/// no room from those above.
pub const TRAFFICS_OTHERS_MAX: usize = 8_192;

/// Groups of hosts alike of which the same is known: one for each kind of server of each account.
pub const TRAFFICS_ALIKE_MAX: usize = 8_192;

/// Ports of each protocol known of one of them. Chosen by hand: a crawler of services is not learned.
pub const TRAFFIC_PORTS_MAX: usize = 128;

/// Destinations known of one of them that it sends more than a little to.
pub const TRAFFIC_PEERS_MAX: usize = 256;

/// Resolvers outside known of one of them: a host has two or three; what resolves by itself asks thousands of
/// servers, which become nobody's habit.
pub const TRAFFIC_RESOLVERS_MAX: usize = 16;

/// Programs known of one of them that send.
pub const TRAFFIC_PROGRAMS_MAX: usize = 64;

/// Domains below which somebody asks for long names, per host, that are remembered for a day: twelve of each
/// of 10,000 hosts, some 150 bytes each.
pub const SUBNAME_DOMAINS_MAX: usize = 131_072;

/// Names remembered of one such domain: more than any threshold of `dns_tunnel` asks for.
pub const SUBNAMES_PER_DOMAIN_MAX: usize = 512;

/// Names remembered of all of them, 24 bytes each: 48 MB. Most domains have a handful.
pub const SUBNAMES_MAX: usize = 2_000_000;

/// Hosts whose resolvers are remembered: the hosts one collector is made for, three times.
pub const RESOLVING_HOSTS_MAX: usize = 65_536;

/// Resolvers remembered of one host, some 80 bytes each. A host has two or three; one that resolves by itself
/// asks thousands of servers, and is known by having many.
pub const RESOLVERS_PER_HOST_MAX: usize = 16;

/// Registered domains of which it is known since when the fleet asks for them, some 60 bytes each with their
/// hosts: 10,000 hosts of a few hundred kinds ask for tens of thousands in a month. Chosen by hand.
pub const DOMAINS_HEARD_MAX: usize = 262_144;

/// Hosts told apart that ask for one domain: more are many.
pub const HEARERS_MAX: usize = 4;

/// Hosts whose lookups are remembered, by the sensor that saw them: those of a day's fleet behind one
/// collector that ask at all within an hour. With [`ASKED_NAMES_MAX`] full everywhere this is bounded by
/// [`ASKED_MAX`].
pub const ASKING_HOSTS_MAX: usize = 32_768;

/// Registered names remembered of one host: ten times what any threshold asks for; the oldest makes room.
pub const ASKED_NAMES_MAX: usize = 256;

/// Registered names remembered of all hosts, some 150 bytes each: about 60 MB.
pub const ASKED_MAX: usize = 400_000;

/// Names that exist of which it is known how many sensors' hosts asked for them.
pub const NAMES_SHARED_MAX: usize = 65_536;

/// Sensors counted of one name: a little above any sensible threshold.
pub const ASKERS_MAX: usize = 64;

/// Hosts told of one summary to ask for generated names: more than ever were infected behind one sensor; a
/// summary of invented clients has more.
pub const GENERATED_HOSTS_TOLD_MAX: usize = 1_024;
