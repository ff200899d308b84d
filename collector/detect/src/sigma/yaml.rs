//! YAML as a bounded tree in which every node knows its line.
//!
//! The parser gives events; the tree, and with it depth, size and what aliases repeat, is bounded
//! here. A name that comes twice in a map is an error: YAML says so, and half of the rule would
//! else be lost without a word.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::fault::{At, Why};
use super::limits::{DEPTH_MAX, FILE_BYTES_MAX, FILE_DOCUMENTS_MAX, NODES_MAX};

/// A node of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Line it begins on, from 1.
    pub(super) line: usize,
    pub(super) kind: Kind,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text; `plain` if it stands without quotes, so that it may mean a number or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    /// In the order written.
    Map(Vec<(Key, Node)>),
}

/// The name of a member of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) text: String,
}

impl Node {
    /// The member `name`, if this is a map that has it.
    pub(super) fn member(&self, name: &str) -> Option<&Self> {
        let Kind::Map(members) = &self.kind else {
            return None;
        };
        let found = members.iter().find(|(key, _)| key.text == name);
        found.map(|(_, node)| node)
    }

    /// Its text, if it is a scalar and not nothing.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Says whether it stands for nothing (YAML 1.2.2, 10.3.2: the core schema).
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Its elements if it is a list, else itself.
    pub(super) fn each(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }
}

/// Reads every document of a file; with the first error the documents before it.
pub(super) fn documents(text: &str) -> (Vec<Node>, Option<At>) {
    let mut tree = Tree::default();
    if text.len() > FILE_BYTES_MAX {
        let fault = At::large(1, "bytes of a file", FILE_BYTES_MAX);
        return (Vec::new(), Some(fault));
    }
    let mut parser = Parser::new_from_str(text);
    loop {
        let (event, line) = match parser.next_event() {
            None => return (tree.documents, None),
            Some(Ok((event, span))) => (event, span.start.line().max(1)),
            Some(Err(error)) => {
                let line = error.marker().line().max(1);
                let why = Why::NotYaml(error.info().to_owned());
                return (tree.documents, Some(At { line, why }));
            }
        };
        if matches!(event, Event::StreamEnd) {
            return (tree.documents, None);
        }
        if let Err(fault) = tree.take(event, line) {
            return (tree.documents, Some(fault));
        }
    }
}

/// The documents while their events arrive.
#[derive(Default)]
struct Tree {
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

/// A list or map that is not closed yet.
struct Open {
    anchor: usize,
    node: Node,
    key: Option<Key>,
    /// Nodes there were before it.
    before: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<(), At> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let text = text.into_owned();
                let kind = Kind::Scalar { text, plain };
                self.count(1, line)?;
                self.close(Node { line, kind }, anchor, 1)
            }
            Event::SequenceStart(anchor, _) => self.open(anchor, line, Kind::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(anchor, line, Kind::Map(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Err(At::wrong(line, "something ends that did not begin"));
                };
                let size = self.nodes - open.before;
                self.close(open.node, open.anchor, size)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err(At::wrong(line, "an alias of what is not complete yet"));
                };
                let (node, size) = (node.clone(), *size);
                self.count(size, line)?;
                self.close(node, 0, size)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                if self.documents.len() >= FILE_DOCUMENTS_MAX {
                    let max = FILE_DOCUMENTS_MAX;
                    return Err(At::large(line, "documents in a file", max));
                }
                Ok(())
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), At> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(At::large(line, "nodes in a file", NODES_MAX));
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, line: usize, kind: Kind) -> Result<(), At> {
        let before = self.nodes;
        self.count(1, line)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(At::large(line, "levels of nesting", DEPTH_MAX));
        }
        self.open.push(Open {
            anchor,
            node: Node { line, kind },
            key: None,
            before,
        });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn close(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), At> {
        if anchor > 0 {
            // Counted again: it is kept twice.
            self.count(size, node.line)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.key.take()) {
            (Kind::Map(members), Some(key)) => members.push((key, node)),
            (Kind::Map(members), None) => {
                let Kind::Scalar { text, .. } = node.kind else {
                    return Err(At::wrong(node.line, "a name that is no text"));
                };
                if members.iter().any(|(key, _)| key.text == text) {
                    let why = format!("{text:?} comes twice in one map");
                    return Err(At::wrong(node.line, why));
                }
                let line = node.line;
                open.key = Some(Key { line, text });
            }
            (Kind::List(items), _) => items.push(node),
            (Kind::Scalar { .. }, _) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        match &node.kind {
            Kind::Scalar { text, plain: true } => text.clone(),
            Kind::Scalar { text, plain: false } => format!("{text:?}"),
            Kind::List(items) => {
                let items: Vec<String> = items.iter().map(shown).collect();
                format!("[{}]", items.join(" "))
            }
            Kind::Map(members) => {
                let shown = |(key, node): &(Key, Node)| format!("{}={}", key.text, shown(node));
                let members: Vec<String> = members.iter().map(shown).collect();
                format!("{{{}}}", members.join(" "))
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let (documents, fault) = documents(text);
        assert_eq!(fault, None);
        let shown: Vec<String> = documents.iter().map(shown).collect();
        assert_eq!(shown, expected);
    }

    #[track_caller]
    fn check_fault(text: &str, line: usize, word: &str) {
        let (_, fault) = documents(text);
        let fault = fault.unwrap();
        assert!(fault.why.to_string().contains(word), "{fault:?}");
        assert_eq!(fault.line, line, "{fault:?}");
    }

    #[test]
    fn documents_become_trees() {
        check("a: b", &["{a=b}"]);
        check("a:\n  - 'b'\n  - \"c\"\n", &[r#"{a=["b" "c"]}"#]);
        check("a: 1\n---\nb: ~\n", &["{a=1}", "{b=~}"]);
        check("a: |\n  two\n  lines\n", &[r#"{a="two\nlines\n"}"#]);
        check("a: &x [1, 2]\nb: *x\n", &["{a=[1 2] b=[1 2]}"]);
        check("", &[]);
        check("'|all': [x]", &["{|all=[x]}"]);
        assert!(documents("a:").0[0].member("a").unwrap().is_null());
        assert!(!documents("a: ''").0[0].member("a").unwrap().is_null());
    }

    #[test]
    fn lines_are_told() {
        let (documents, _) = documents("# a\na: 1\nb:\n  c:\n    - d\n");
        let inner = documents[0].member("b").unwrap().member("c").unwrap();
        assert_eq!(inner.each()[0].line, 5);
    }

    #[test]
    fn faults_name_their_line() {
        check_fault("a: 1\nb: [1, 2\n", 3, "not YAML");
        check_fault("a: 1\na: 2\n", 2, "comes twice");
        check_fault("[a]: 1\n", 1, "no text");
        check_fault("a: *x", 1, "anchor");
        check_fault("a: &x [*x]", 1, "not complete");
        check_fault(&format!("a: {}", "[".repeat(200)), 1, "levels");
        check_fault(&"a".repeat(FILE_BYTES_MAX + 1), 1, "bytes");
        check_fault(&"---\na: 1\n".repeat(1_001), 2_001, "documents");
    }

    #[test]
    fn an_alias_bomb_costs_its_bound_and_no_more() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let before = format!("*a{}, ", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
        }
        check_fault(&bomb, 5, "nodes");
    }

    #[test]
    fn what_stands_before_an_error_is_read() {
        let (documents, fault) = documents("a: 1\n---\nb: [\n---\nc: 1\n");
        assert_eq!(documents.len(), 1);
        assert!(fault.is_some());
    }
}
