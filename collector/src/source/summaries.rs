//! Summary files into the sorter: sequences of envelopes (RFC 8742), each checked before it counts.
//!
//! The offline analysis believes whom it is told to: the agents of the configuration for their own
//! host, keys given on the command line for any, and the public development key, with which
//! captures are replayed. Age does not matter; signature, bounds, host and chain do.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use picket_detect::admit::Fit;
use picket_detect::logs::Place;
use picket_wire::limits::ENVELOPE_BYTES_MAX;
use picket_wire::{AgentId, PublicKey, Sealed, Signer, Summary, Verified, item_bytes};

use crate::config::Agent;
use crate::source::chains::Chains;
use crate::source::inflate::Input;
use crate::source::limits::CHUNK_BYTES;
use crate::source::sort::Kind;
use crate::source::{Origin, Record, Report, Sorter, files};

/// First bytes of every envelope of ours, up to the length of its protected header, and what stands
/// behind that length: a map of eight, algorithm −8. Used to find the next one after damage.
const HEAD: [u8; 3] = [0xd2, 0x84, 0x58];
const PROTECTED: [u8; 3] = [0xa8, 0x01, 0x27];

/// What was read.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Totals {
    /// Files read.
    pub files: u64,
    /// Their bytes, inflated.
    pub bytes: u64,
    /// Envelopes found.
    pub envelopes: u64,
    /// Envelopes believed, by the key they verify under: `development`, `given`, or the agent's id.
    pub verified: BTreeMap<String, u64>,
    /// Envelopes refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Whom to believe.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// Agents of the configuration, each for its own host.
    pub agents: Vec<Agent>,
    /// Keys that may speak for any host.
    pub given: Vec<PublicKey>,
}

/// Reads summary files.
pub struct Reader {
    /// What was read so far.
    pub totals: Totals,
    /// The chains met so far.
    pub chains: Chains,
    keys: Keys,
    development: PublicKey,
}

impl Reader {
    /// Reads what is signed with `keys`, or with the development key.
    pub fn new(keys: Keys) -> Self {
        Self {
            totals: Totals::default(),
            chains: Chains::default(),
            keys,
            development: Signer::development().public_key(),
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
            Ok((summary, key)) => {
                *self.totals.verified.entry(key).or_default() += 1;
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

    /// Checks an envelope as far as it can be without a clock; says under which key it verifies.
    fn judge(&mut self, bytes: &[u8]) -> Result<(Summary, String), Refusal> {
        let sealed = Sealed::parse(bytes).map_err(|error| Refusal::new("malformed", error))?;
        let (verified, key) = self.verify(sealed)?;
        let summary = verified
            .open()
            .map_err(|error| Refusal::new("malformed", error))?;
        let header = verified.header();
        self.check_host(&key, header.agent, &summary)?;
        match self.chains.note(header, &verified.digest()) {
            Fit::New => {}
            Fit::Repeated => return Err(Refusal::new(REPEATED, "came before")),
            Fit::Forked => {
                let why = format!(
                    "envelope {} of agent {} forks its chain",
                    header.sequence, header.agent
                );
                return Err(Refusal::new("fork", why));
            }
        }
        let key = match key {
            Key::Development => "development".to_owned(),
            Key::Given => "given".to_owned(),
            Key::Agent(_) => header.agent.to_string(),
        };
        Ok((summary, key))
    }

    fn verify<'a>(&self, sealed: Sealed<'a>) -> Result<(Verified<'a>, Key), Refusal> {
        let claimed = sealed.claims().agent;
        // An agent that is known has one key: whoever else speaks in its name is not it.
        if let Some(at) = self
            .keys
            .agents
            .iter()
            .position(|agent| agent.id == claimed)
        {
            return match sealed.verify(&self.keys.agents[at].public_key) {
                Ok(verified) => Ok((verified, Key::Agent(at))),
                Err(error) => Err(Refusal::new("tampered", error)),
            };
        }
        if let Ok(verified) = sealed.verify(&self.development) {
            return Ok((verified, Key::Development));
        }
        for key in &self.keys.given {
            if let Ok(verified) = sealed.verify(key) {
                return Ok((verified, Key::Given));
            }
        }
        let why = format!("agent {claimed}: signature verifies under no key that is believed");
        Err(Refusal::new("unknown_key", why))
    }

    fn check_host(&self, key: &Key, agent: AgentId, summary: &Summary) -> Result<(), Refusal> {
        let host = &summary.host;
        let is_own = match key {
            Key::Agent(at) => {
                let known = &self.keys.agents[*at];
                (&known.account, &known.region, &known.instance)
                    == (&host.account, &host.region, &host.instance)
            }
            Key::Development => {
                agent == AgentId::of_replay(&host.account, &host.region, &host.instance)
            }
            Key::Given => true,
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

/// Which key an envelope verifies under.
enum Key {
    /// That of the configuration's agent of this number.
    Agent(usize),
    Development,
    Given,
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

    use picket_wire::{BootId, Chain, Host, Window};

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
            gap: None,
            imds: Vec::new(),
            health: None,
        }
    }

    fn replayed(instance: &str) -> AgentId {
        AgentId::of_replay("111122223333", "eu-west-1", instance)
    }

    /// Envelopes of one run, one for each second given.
    fn envelopes(agent: AgentId, signer: &Signer, seconds: &[u64]) -> Vec<Vec<u8>> {
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

    fn read(keys: Keys, files: &[&[u8]]) -> Read {
        let folder = tempfile::tempdir().unwrap();
        for (at, bytes) in files.iter().enumerate() {
            fs::write(folder.path().join(format!("{at}.cbor")), bytes).unwrap();
        }
        let (mut sorter, mut names, mut told) = (Sorter::default(), Vec::new(), Vec::new());
        let mut reader = Reader::new(keys);
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
        let all = envelopes(replayed("i-1"), &Signer::development(), &[10, 30, 20, 40]);
        let (one, two) = (all[..2].concat(), all[2..].concat());
        let read = read(Keys::default(), &[&two, &one]);
        assert_eq!(read.seconds, [10, 20, 30, 40]);
        assert_eq!(read.told, "");
        assert_eq!(read.totals.verified["development"], 4);
        assert_eq!((read.chains.runs, read.chains.gaps), (1, 0));
    }

    #[test]
    fn only_those_who_may_speak_are_believed() {
        let own = Signer::from_seed(&OWN_SEED);
        let key = own.public_key();
        let (id, replay) = (AgentId::of_key(&key.0), replayed("i-1"));
        let development = Signer::development();
        let nobody = Keys::default();
        let given = Keys {
            agents: Vec::new(),
            given: vec![key],
        };
        let config = Keys {
            agents: vec![known(key, "i-1")],
            given: Vec::new(),
        };
        let other = Keys {
            agents: vec![known(key, "i-2")],
            given: Vec::new(),
        };
        for (name, keys, agent, signer, expected) in [
            ("development", &nobody, replay, &development, "development"),
            ("own key, not given", &nobody, id, &own, "unknown_key"),
            ("own key, given", &given, id, &own, "given"),
            (
                "own key, in the configuration",
                &config,
                id,
                &own,
                &id.to_string(),
            ),
            (
                "configured for another host",
                &other,
                id,
                &own,
                "wrong_host",
            ),
            (
                "development key in a known agent's name",
                &config,
                id,
                &development,
                "tampered",
            ),
            (
                "development key for another host",
                &nobody,
                replayed("i-2"),
                &development,
                "wrong_host",
            ),
        ] {
            let bytes = envelopes(agent, signer, &[10]).concat();
            let read = read(keys.clone(), &[&bytes]);
            let verified = read.totals.verified.contains_key(expected);
            let refused = read.totals.refused.contains_key(expected);
            assert!(verified || refused, "{name}: {:?}", read.totals);
            assert_eq!(read.seconds.len(), usize::from(verified), "{name}");
            assert_eq!(read.told.is_empty(), verified, "{name}: {}", read.told);
        }
    }

    #[test]
    fn gaps_forks_and_repeats_are_counted() {
        let (agent, signer) = (replayed("i-1"), Signer::development());
        let all = envelopes(agent, &signer, &[10, 20, 30, 40]);
        let twin = envelopes(agent, &signer, &[10, 25]);
        let with_gap = [all[0].clone(), all[2].clone(), all[2].clone()].concat();
        let read = read(Keys::default(), &[&with_gap, &twin[1]]);
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
        let all = envelopes(replayed("i-1"), &Signer::development(), &[10, 20, 30]);
        let bytes = all.concat();
        let second = all[0].len()..all[0].len() + all[1].len();
        for at in second.clone() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            let read = read(Keys::default(), &[&bytes]);
            assert!(
                read.seconds.starts_with(&[10]),
                "byte {at}: {:?}",
                read.seconds
            );
            assert!(!read.seconds.contains(&20), "byte {at}");
            assert!(!read.told.is_empty(), "byte {at}");
            // A changed length may swallow the next; any other change may not.
            if at - second.start > 230 && second.end - at > 70 {
                assert_eq!(read.seconds, [10, 30], "byte {at}: {}", read.told);
            }
        }
        for cut in (0..bytes.len()).step_by(3) {
            let read = read(Keys::default(), &[&bytes[..cut]]);
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
        let read = read(Keys::default(), &[b"{\"a\":1}\n"]);
        assert_eq!(read.totals.envelopes, 0);
        assert!(
            read.told.contains("0.cbor: byte 0: no COSE_Sign1"),
            "{}",
            read.told
        );
    }
}
