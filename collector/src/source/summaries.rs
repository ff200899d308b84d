//! Summary files into the sorter: sequences of envelopes (RFC 8742), each checked before it counts.
//!
//! The offline analysis takes envelopes of any key and age, as an envelope carries its key; what is
//! known of that key goes with the totals, and to stderr where it is less than one would like. Agents
//! that the configuration names are held to their key and their host, replays under the public
//! development key to the host they are named after. Signature, bounds and chain matter for all.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use picket_detect::admit::Fit;
use picket_detect::logs::Place;
use picket_wire::limits::ENVELOPE_BYTES_MAX;
use picket_wire::{AgentId, EnvelopeError, Sealed, Summary, item_bytes};

use crate::config::Agent;
use crate::source::chains::Chains;
use crate::source::inflate::Input;
use crate::source::limits::CHUNK_BYTES;
use crate::source::signers::{Signer, Signers, Standing};
use crate::source::sort::Kind;
use crate::source::{Origin, Record, Report, Sorter, files};

/// First bytes of every envelope of ours, up to the length of its protected header, and what stands
/// behind that length: a map of nine, algorithm −8. Used to find the next one after damage.
const HEAD: [u8; 3] = [0xd2, 0x84, 0x58];
const PROTECTED: [u8; 3] = [0xa9, 0x01, 0x27];

/// What was read.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Totals {
    /// Files read.
    pub files: u64,
    /// Their bytes, inflated.
    pub bytes: u64,
    /// Envelopes found.
    pub envelopes: u64,
    /// Envelopes taken, by what is known of their key.
    pub verified: BTreeMap<Standing, u64>,
    /// Who signed them.
    #[serde(flatten)]
    pub signers: Signers,
    /// Envelopes refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Reads summary files.
pub struct Reader {
    /// What was read so far.
    pub totals: Totals,
    /// The chains met so far.
    pub chains: Chains,
    agents: Vec<Agent>,
}

impl Reader {
    /// Holds `agents` to their own key and host, and takes others at their word.
    pub fn new(agents: Vec<Agent>) -> Self {
        Self {
            totals: Totals::default(),
            chains: Chains::default(),
            agents,
        }
    }

    /// Reads the file or folder at `path`, or stdin if it is `-`; `names` gives each file its number.
    ///
    /// # Errors
    /// Those of the sorter. What is wrong with files is reported.
    pub fn read(
        &mut self,
        path: &Path,
        names: &mut Vec<PathBuf>,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let mut one = |file: &Path, report: &mut Report<'_>| {
            let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
            names.push(file.to_owned());
            self.totals.files += 1;
            let input = if file == Path::new("-") {
                Input::new(io::stdin())
            } else {
                Input::open(file)
            };
            let read = match input {
                Ok(input) => self.read_file(input, file, number, sorter, report),
                Err(error) => {
                    report.fault(file, None, error);
                    Ok(())
                }
            };
            report.end_of_file(file);
            read
        };
        if path == Path::new("-") {
            one(path, report)
        } else {
            files::for_each(path, &[], report, &mut one)
        }
    }

    fn read_file(
        &mut self,
        mut input: Input,
        file: &Path,
        number: u32,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        // Place of the buffer's first byte in the file, and whether an envelope is being looked for.
        let (mut base, mut lost) = (0u64, false);
        loop {
            let count = match input.read(&mut chunk) {
                Ok(count) => count,
                Err(error) => {
                    report.fault(file, place(base + buffer.len() as u64), error);
                    0
                }
            };
            buffer.extend_from_slice(&chunk[..count]);
            let ended = count == 0;
            let mut at = 0;
            loop {
                let rest = &buffer[at..];
                if lost {
                    let (skip, found) = next_head(rest, ended);
                    at += skip;
                    if !found {
                        break;
                    }
                    lost = false;
                    continue;
                }
                match item_bytes(rest) {
                    Ok(Some(bytes)) => {
                        let origin = Origin {
                            file: number,
                            byte: base + at as u64,
                            line: 0,
                        };
                        self.take(&rest[..bytes], origin, file, sorter, report)?;
                        at += bytes;
                    }
                    Ok(None) if ended && !rest.is_empty() => {
                        report.fault(
                            file,
                            place(base + at as u64),
                            "ends in the middle of an envelope",
                        );
                        // Behind a damaged length there may be whole ones.
                        (at, lost) = (at + 1, true);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        report.fault(file, place(base + at as u64), error);
                        (at, lost) = (at + 1, true);
                    }
                }
            }
            buffer.drain(..at);
            base += at as u64;
            if ended {
                break;
            }
            debug_assert!(buffer.len() <= ENVELOPE_BYTES_MAX);
        }
        // No envelopes are a sequence, too: a capture without packets replays to it.
        self.totals.bytes += input.inflated();
        Ok(())
    }

    fn take(
        &mut self,
        bytes: &[u8],
        origin: Origin,
        file: &Path,
        sorter: &mut Sorter,
        report: &mut Report<'_>,
    ) -> io::Result<()> {
        self.totals.envelopes += 1;
        match self.judge(bytes) {
            Ok((summary, signer)) => {
                *self.totals.verified.entry(signer.standing).or_default() += 1;
                if self.totals.signers.note(signer)
                    && let Some(word) = self.word_on(&signer)
                {
                    report.notice(file, place(origin.byte), word);
                }
                sorter.push(&Record {
                    time_ns: summary.window.end_ns,
                    kind: Kind::Summary,
                    origin,
                    bytes: &summary.to_bytes(),
                })
            }
            Err(Refusal { reason, why }) => {
                *self.totals.refused.entry(reason).or_default() += 1;
                // An envelope that is there twice is no fault: files overlap.
                if reason != REPEATED {
                    report.fault(file, place(origin.byte), format_args!("refused: {why}"));
                }
                Ok(())
            }
        }
    }

    /// What a person should know about a signer, if anything.
    fn word_on(&self, signer: &Signer) -> Option<String> {
        let Signer { agent, key, .. } = signer;
        let names_agents = !self.agents.is_empty();
        match signer.standing {
            Standing::Configured => None,
            Standing::Development if names_agents => Some(format!(
                "agent {agent} signs with the public development key, which is nobody's"
            )),
            // That is how captures are replayed.
            Standing::Development => None,
            Standing::Unknown if names_agents => Some(format!(
                "agent {agent} signs with the key {key}, which is not in the configuration"
            )),
            Standing::Unknown => Some(format!(
                "agent {agent} signs with the key {key}; no configuration says whose that is"
            )),
        }
    }

    /// Checks an envelope as far as it can be without a clock; says who signed it.
    fn judge(&mut self, bytes: &[u8]) -> Result<(Summary, Signer), Refusal> {
        let sealed = Sealed::parse(bytes).map_err(|error| Refusal::new("malformed", error))?;
        let claimed = sealed.claims().agent;
        let known = self.agents.iter().find(|agent| agent.id == claimed);
        // An agent that is known has one key: whoever else speaks in its name is not it.
        let verified = match known {
            Some(agent) => sealed.verify(&agent.public_key),
            None => sealed.verify_as_claimed(),
        };
        let verified = verified.map_err(|error| match error {
            EnvelopeError::WrongKey { .. } => Refusal::new("wrong_key", error),
            error => Refusal::new("tampered", error),
        })?;
        let header = verified.header();
        let standing = match known {
            Some(_) => Standing::Configured,
            None if header.key.is_development() => Standing::Development,
            None => Standing::Unknown,
        };
        let summary = verified
            .open()
            .map_err(|error| Refusal::new("malformed", error))?;
        check_host(known, standing, header.agent, &summary)?;
        match self.chains.note(header, &verified.digest()) {
            Fit::New => Ok((summary, Signer::of(header, standing))),
            Fit::Repeated => Err(Refusal::new(REPEATED, "came before")),
            Fit::Forked => {
                let why = format!(
                    "envelope {} of agent {} forks its chain",
                    header.sequence, header.agent
                );
                Err(Refusal::new("fork", why))
            }
        }
    }
}

fn check_host(
    known: Option<&Agent>,
    standing: Standing,
    agent: AgentId,
    summary: &Summary,
) -> Result<(), Refusal> {
    let host = &summary.host;
    let is_own = match (known, standing) {
        (Some(known), _) => {
            (&known.account, &known.region, &known.instance)
                == (&host.account, &host.region, &host.instance)
        }
        (None, Standing::Development) => {
            agent == AgentId::of_replay(&host.account, &host.region, &host.instance)
        }
        // Nobody said which host is that key's.
        (None, _) => true,
    };
    if is_own {
        return Ok(());
    }
    let why = format!(
        "agent {agent} speaks for {:?} in {:?} {:?}, which is not its own host",
        host.instance, host.account, host.region
    );
    Err(Refusal::new("wrong_host", why))
}

const REPEATED: &str = "replayed";

/// Why an envelope was not taken.
struct Refusal {
    /// One stable word, as the service uses it.
    reason: &'static str,
    why: String,
}

impl Refusal {
    fn new(reason: &'static str, why: impl std::fmt::Display) -> Self {
        Self {
            reason,
            why: why.to_string(),
        }
    }
}

fn place(byte: u64) -> Option<Place> {
    // Summaries have no lines; the place is the byte's.
    Some(Place { byte, line: 0 })
}

/// How many bytes to skip to what looks like the head of an envelope, and whether there is one.
fn next_head(bytes: &[u8], ended: bool) -> (usize, bool) {
    let len = HEAD.len() + 1 + PROTECTED.len();
    let is_head = |window: &[u8]| window.starts_with(&HEAD) && window.ends_with(&PROTECTED);
    match bytes.windows(len).position(is_head) {
        Some(at) => (at, true),
        None if ended => (bytes.len(), false),
        None => (bytes.len().saturating_sub(len - 1), false),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use picket_wire::{BootId, Chain, Host, PublicKey, Signer as Key, Window};

    use super::*;

    const OWN_SEED: [u8; 32] = [9; 32];

    fn summary(instance: &str, second: u64) -> Summary {
        Summary {
            version: 1,
            immediate: false,
            host: Host {
                instance: instance.to_owned(),
                account: "111122223333".to_owned(),
                region: "eu-west-1".to_owned(),
                ..Host::default()
            },
            window: Window {
                start_ns: 0,
                end_ns: second * 1_000_000_000,
            },
            conversations: Vec::new(),
            questions: Vec::new(),
            hits: Vec::new(),
            counters: Vec::new(),
            cut: Default::default(),
            ..Summary::default()
        }
    }

    fn replayed(instance: &str) -> AgentId {
        AgentId::of_replay("111122223333", "eu-west-1", instance)
    }

    /// Envelopes of one run, one for each second given.
    fn envelopes(agent: AgentId, signer: &Key, seconds: &[u64]) -> Vec<Vec<u8>> {
        let mut chain = Chain::new(agent, BootId([3; 16]));
        let seal = |second: &u64| chain.seal(&summary("i-1", *second), 0, signer);
        seconds.iter().map(seal).collect()
    }

    struct Read {
        seconds: Vec<u64>,
        told: String,
        totals: Totals,
        chains: crate::source::chains::Totals,
    }

    fn read(agents: &[Agent], files: &[&[u8]]) -> Read {
        let folder = tempfile::tempdir().unwrap();
        for (at, bytes) in files.iter().enumerate() {
            fs::write(folder.path().join(format!("{at}.cbor")), bytes).unwrap();
        }
        let (mut sorter, mut names, mut told) = (Sorter::default(), Vec::new(), Vec::new());
        let mut reader = Reader::new(agents.to_vec());
        let mut report = Report::new(&mut told);
        reader
            .read(folder.path(), &mut names, &mut sorter, &mut report)
            .unwrap();
        let mut sorted = sorter.finish().unwrap();
        let mut seconds = Vec::new();
        while let Some(record) = sorted.next_record().unwrap() {
            let summary = Summary::from_bytes(record.bytes).unwrap();
            assert_eq!(record.time_ns, summary.window.end_ns);
            seconds.push(record.time_ns / 1_000_000_000);
        }
        Read {
            seconds,
            told: String::from_utf8(told).unwrap(),
            totals: reader.totals,
            chains: reader.chains.totals(),
        }
    }

    fn known(key: PublicKey, instance: &str) -> Agent {
        Agent {
            id: AgentId::of_key(&key.0),
            public_key: key,
            account: "111122223333".to_owned(),
            region: "eu-west-1".to_owned(),
            instance: instance.to_owned(),
        }
    }

    #[test]
    fn several_files_come_in_order_of_time() {
        let all = envelopes(replayed("i-1"), &Key::development(), &[10, 30, 20, 40]);
        let (one, two) = (all[..2].concat(), all[2..].concat());
        let read = read(&[], &[&two, &one]);
        assert_eq!(read.seconds, [10, 20, 30, 40]);
        assert_eq!(read.told, "");
        assert_eq!(read.totals.verified[&Standing::Development], 4);
        assert_eq!((read.chains.runs, read.chains.gaps), (1, 0));
    }

    #[test]
    fn each_signer_is_taken_for_what_it_is() {
        let own = Key::from_seed(&OWN_SEED);
        let key = own.public_key();
        let (id, replay) = (AgentId::of_key(&key.0), replayed("i-1"));
        let development = Key::development();
        let elsewhere = replayed("i-2");
        let strangers = [known(Key::from_seed(&[8; 32]).public_key(), "i-1")];
        let (config, other) = ([known(key, "i-1")], [known(key, "i-2")]);
        for (name, agents, agent, signer, expected) in [
            ("development", &[][..], replay, &development, "Development"),
            ("a key nobody named", &[], id, &own, "Unknown"),
            ("in the configuration", &config, id, &own, "Configured"),
            (
                "another is in the configuration",
                &strangers,
                id,
                &own,
                "Unknown",
            ),
            (
                "configured for another host",
                &other,
                id,
                &own,
                "wrong_host",
            ),
            (
                "development, known agent's name",
                &config,
                id,
                &development,
                "wrong_key",
            ),
            ("a key of another name", &[], replay, &own, "wrong_key"),
            (
                "development, other host",
                &[],
                elsewhere,
                &development,
                "wrong_host",
            ),
        ] {
            let bytes = envelopes(agent, signer, &[10]).concat();
            let read = read(agents, &[&bytes]);
            let standing = read.totals.verified.keys().map(|key| format!("{key:?}"));
            let taken = standing.collect::<Vec<_>>().contains(&expected.to_owned());
            let refused = read.totals.refused.contains_key(expected);
            assert!(taken || refused, "{name}: {:?}", read.totals);
            assert_eq!(read.seconds.len(), usize::from(taken), "{name}");
            let is_quiet = matches!(expected, "Development" | "Configured");
            assert_eq!(read.told.is_empty(), is_quiet, "{name}: {}", read.told);
        }
    }

    #[test]
    fn a_key_nobody_named_is_told_once_with_its_agent() {
        let own = Key::from_seed(&OWN_SEED);
        let key = own.public_key();
        let agent = AgentId::of_key(&key.0);
        let mut bytes = envelopes(agent, &own, &[10, 20]).concat();
        bytes.extend(envelopes(replayed("i-1"), &Key::development(), &[30]).concat());
        let strangers = [known(Key::from_seed(&[8; 32]).public_key(), "i-1")];
        let with_agents = read(&strangers, &[&bytes]);
        let told: Vec<&str> = with_agents.told.lines().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        let expected = format!("agent {agent} signs with the key {key}, which is not in");
        assert!(told[0].contains(&expected), "{told:?}");
        assert!(told[1].contains("public development key"), "{told:?}");
        let signers: Vec<_> = with_agents.totals.signers.iter().collect();
        assert_eq!(signers.len(), 2);
        let unknown = Signer {
            agent,
            key,
            standing: Standing::Unknown,
        };
        assert!(signers.contains(&(&unknown, 2)), "{signers:?}");
        // Nobody to compare with: replays are nothing odd, other keys are named.
        let without = read(&[], &[&bytes]);
        assert_eq!(without.told.lines().count(), 1, "{}", without.told);
        assert!(without.told.contains("no configuration says whose"));
    }

    #[test]
    fn a_key_that_did_not_sign_is_refused() {
        let (own, other) = (Key::from_seed(&OWN_SEED), Key::from_seed(&[8; 32]));
        let id = |signer: &Key| AgentId::of_key(&signer.public_key().0);
        let mut bytes = envelopes(id(&own), &own, &[10]).concat();
        for (from, to) in [
            (&own.public_key().0[..], &other.public_key().0[..]),
            (&id(&own).0[..], &id(&other).0[..]),
        ] {
            let at = bytes.windows(from.len()).position(|window| window == from);
            bytes[at.unwrap()..][..to.len()].copy_from_slice(to);
        }
        let read = read(&[], &[&bytes]);
        assert_eq!(read.totals.refused["tampered"], 1);
        assert!(read.seconds.is_empty());
        assert!(read.told.contains("does not verify"), "{}", read.told);
    }

    #[test]
    fn gaps_forks_and_repeats_are_counted() {
        let (agent, signer) = (replayed("i-1"), Key::development());
        let all = envelopes(agent, &signer, &[10, 20, 30, 40]);
        let twin = envelopes(agent, &signer, &[10, 25]);
        let with_gap = [all[0].clone(), all[2].clone(), all[2].clone()].concat();
        let read = read(&[], &[&with_gap, &twin[1]]);
        // The twin of the missing one is not what its successor names.
        assert_eq!(read.seconds, [10, 30]);
        assert_eq!((read.chains.gaps, read.chains.missing), (1, 1));
        assert_eq!((read.chains.forks, read.chains.repeats), (1, 1));
        assert_eq!(
            (read.totals.refused["fork"], read.totals.refused["replayed"]),
            (1, 1)
        );
        assert!(read.told.contains("forks its chain"), "{}", read.told);
    }

    #[test]
    fn a_changed_byte_takes_one_envelope_and_a_cut_the_last() {
        let all = envelopes(replayed("i-1"), &Key::development(), &[10, 20, 30]);
        let bytes = all.concat();
        let second = all[0].len()..all[0].len() + all[1].len();
        for at in second.clone() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            let read = read(&[], &[&bytes]);
            assert!(
                read.seconds.starts_with(&[10]),
                "byte {at}: {:?}",
                read.seconds
            );
            assert!(!read.seconds.contains(&20), "byte {at}");
            assert!(!read.told.is_empty(), "byte {at}");
            // A changed length may swallow the next; any other change may not.
            if at - second.start > 240 && second.end - at > 70 {
                assert_eq!(read.seconds, [10, 30], "byte {at}: {}", read.told);
            }
        }
        for cut in (0..bytes.len()).step_by(3) {
            let read = read(&[], &[&bytes[..cut]]);
            let whole = [all[0].len(), second.end]
                .iter()
                .filter(|end| **end <= cut)
                .count();
            assert_eq!(read.seconds.len(), whole, "cut at {cut}");
            // Cut to nothing it is a sequence without envelopes.
            let at_an_end = [0, all[0].len(), second.end].contains(&cut);
            assert_eq!(
                read.told.is_empty(),
                at_an_end,
                "cut at {cut}: {}",
                read.told
            );
        }
    }

    #[test]
    fn other_bytes_are_told() {
        let read = read(&[], &[b"{\"a\":1}\n"]);
        assert_eq!(read.totals.envelopes, 0);
        assert!(
            read.told.contains("0.cbor: byte 0: no COSE_Sign1"),
            "{}",
            read.told
        );
    }
}
