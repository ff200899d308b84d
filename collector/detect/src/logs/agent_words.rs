//! Words in user agents that tell something of who calls: one look at the text answers for all of them.
//!
//! Anybody may write anything into a user agent: what a word is worth is for others to say.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};

/// What a word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// A program that makes and unmakes what a plan says.
    Planner,
    /// A browser, or the console behind it.
    Console,
    /// A part of the console's own name.
    ConsoleProgram,
    /// The runtime of a function or of a container.
    Runtime,
    /// A command line, at which people type.
    CommandLine,
    /// A system or program for breaking in, by its number in [`TOOLS`].
    Tool(u8),
}

/// Systems and programs for breaking in, as they call themselves.
pub(crate) const TOOLS: [&str; 5] = ["kali", "parrot", "pentoo", "pacu", "trufflehog"];

/// Words with what they say. Tools are told by the word in either case, standing by itself: names of hosts
/// and of companies hold such words too. All others by the text as it stands, wherever it does.
const WORDS: [(&str, Says); 22] = [
    ("CloudFormation", Says::Planner),
    ("OpenTofu", Says::Planner),
    ("Pulumi", Says::Planner),
    ("Terraform", Says::Planner),
    ("aws-cdk", Says::Planner),
    ("crossplane", Says::Planner),
    ("terraform-provider-aws", Says::Planner),
    ("Mozilla", Says::Console),
    ("Console", Says::ConsoleProgram),
    ("console.amazonaws.com", Says::Console),
    ("AWS Internal", Says::Console),
    ("signin.amazonaws.com", Says::Console),
    ("aws-internal", Says::ConsoleProgram),
    ("exec-env/AWS_Lambda", Says::Runtime),
    ("exec-env/AWS_ECS", Says::Runtime),
    ("AWSPowerShell", Says::CommandLine),
    ("aws-cli/", Says::CommandLine),
    (TOOLS[0], Says::Tool(0)),
    (TOOLS[1], Says::Tool(1)),
    (TOOLS[2], Says::Tool(2)),
    (TOOLS[3], Says::Tool(3)),
    (TOOLS[4], Says::Tool(4)),
];

static FINDER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasickBuilder::new()
        .ascii_case_insensitive(true)
        .build(WORDS.map(|(word, _)| word))
        .expect("two dozen short words make an automaton")
});

/// What a user agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AgentWords {
    said: u16,
}

impl AgentWords {
    /// What stands in `agent`.
    pub(crate) fn of(agent: &str) -> Self {
        let bytes = agent.as_bytes();
        let is_letter = |at: Option<usize>| {
            at.and_then(|at| bytes.get(at))
                .is_some_and(u8::is_ascii_alphabetic)
        };
        let mut words = Self::default();
        for found in FINDER.find_overlapping_iter(agent) {
            let (word, says) = WORDS[found.pattern().as_usize()];
            let holds = match says {
                Says::Tool(_) => {
                    !is_letter(found.start().checked_sub(1)) && !is_letter(Some(found.end()))
                }
                _ => &bytes[found.range()] == word.as_bytes(),
            };
            if holds {
                words.said |= says.bit();
            }
        }
        words
    }

    /// Says whether something is said.
    pub(crate) fn has(self, says: Says) -> bool {
        self.said & says.bit() != 0
    }

    /// The first of [`TOOLS`] that is named.
    pub(crate) fn tool(self) -> Option<usize> {
        (0..TOOLS.len()).find(|number| self.has(Says::Tool(*number as u8)))
    }
}

impl Says {
    fn bit(self) -> u16 {
        match self {
            Self::Planner => 1,
            Self::Console => 1 << 1,
            Self::ConsoleProgram => 1 << 2,
            Self::Runtime => 1 << 3,
            Self::CommandLine => 1 << 4,
            Self::Tool(number) => 1 << (5 + number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_their_near_misses() {
        let check = |agent: &str, expected: &[Says]| {
            let words = AgentWords::of(agent);
            let all = [
                Says::Planner,
                Says::Console,
                Says::ConsoleProgram,
                Says::Runtime,
            ];
            let tools = (0..TOOLS.len()).map(|number| Says::Tool(number as u8));
            let said: Vec<Says> = all
                .into_iter()
                .chain(tools)
                .filter(|s| words.has(*s))
                .collect();
            assert_eq!(said, expected, "{agent}");
        };
        check("APN/1.0 HashiCorp/1.0 Terraform/1.1.2", &[Says::Planner]);
        check("my-terraform", &[]);
        check("x terraform-provider-aws/5", &[Says::Planner]);
        check("Mozilla/5.0 (X11)", &[Says::Console]);
        check("[S3Console/0.4, aws-internal/3]", &[Says::ConsoleProgram]);
        check("console.amazonaws.com", &[Says::Console]);
        check("aws-cli/2 exec-env/AWS_Lambda_python3.9", &[Says::Runtime]);
        check("Boto3/1.9 Linux/5.3.0-kali2-amd64", &[Says::Tool(0)]);
        check("TruffleHog", &[Says::Tool(4)]);
        check("kalinka-backup/1.0 alkali parroting", &[]);
        check("Pacu/1 Kali", &[Says::Tool(0), Says::Tool(3)]);
        check("", &[]);
        assert_eq!(AgentWords::of("pacu kali").tool(), Some(0));
        assert_eq!(AgentWords::of("aws-cli/2").tool(), None);
    }
}
