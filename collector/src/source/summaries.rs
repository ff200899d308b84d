//! Summary files into the sorter: sequences of envelopes (RFC 8742), each checked before it counts.
//!
//! The offline analysis believes whom it is told to: the agents of the configuration for their own
//! host, keys given on the command line for any, and the public development key, with which
//! captures are replayed. Age does not matter; signature, bounds, host and chain do.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use picket_detect::logs::Place;
use picket_wire::limits::ENVELOPE_BYTES_MAX;
use picket_wire::{AgentId, PublicKey, Sealed, Signer, Summary, Verified, item_bytes};

use crate::config::Agent;
use crate::source::chains::{Chains, Noted};
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
        self.totals.bytes += input.inflated();
        if input.inflated() == 0 {
            report.fault(file, None, "empty");
        }
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
            Noted::New => {}
            Noted::Repeated => return Err(Refusal::new(REPEATED, "came before")),
            Noted::Forked => {
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
