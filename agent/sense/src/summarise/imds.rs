//! Requests to the metadata service: each waits a while for the status of its answer, then like
//! ones are counted together.

use std::collections::VecDeque;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use picket_wire::limits::IMDS_REQUESTS_MAX;
use picket_wire::{ImdsRequest, Process};

use crate::decode::http::imds::{Asked, Message};
use crate::decode::{Protocol, Record};
use crate::flow::FlowKey;
use crate::limits::{IMDS_WAIT_NS, IMDS_WAITING_MAX};

#[derive(PartialEq, Eq, Hash)]
struct Key {
    client: IpAddr,
    server: IpAddr,
    asked: Asked,
    status: Option<u16>,
    /// Pid and start of the process.
    process: Option<(u32, u64)>,
}

struct Waiting {
    ts_ns: u64,
    client: (IpAddr, u16),
    server: IpAddr,
    asked: Asked,
    process: Option<Process>,
}

/// The requests of the window.
#[derive(Default)]
pub(crate) struct Requests {
    waiting: HashMap<FlowKey, VecDeque<Waiting>, RandomState>,
    waiting_count: usize,
    groups: HashMap<Key, ImdsRequest, RandomState>,
}

impl Requests {
    /// Takes a message; `process` is whose packet it is. Returns whether there was room.
    pub(crate) fn take(
        &mut self,
        record: &Record,
        message: &Message,
        process: Option<&Process>,
    ) -> bool {
        let (flow, _) = FlowKey::new(record.src, record.dst, Protocol::TCP, record.tunnel);
        match message {
            Message::Request(_) if self.waiting_count >= IMDS_WAITING_MAX => false,
            Message::Request(asked) => {
                self.waiting_count += 1;
                self.waiting.entry(flow).or_default().push_back(Waiting {
                    ts_ns: record.ts_ns,
                    client: (record.src.addr, record.src.port),
                    server: record.dst.addr,
                    asked: asked.clone(),
                    process: process.cloned(),
                });
                true
            }
            Message::Answer { status, .. } => {
                let oldest = self.waiting.get_mut(&flow).and_then(VecDeque::pop_front);
                oldest.is_none_or(|request| {
                    self.waiting_count -= 1;
                    self.count(request, Some(*status))
                })
            }
        }
    }

    fn count(&mut self, request: Waiting, status: Option<u16>) -> bool {
        let (client, client_port) = request.client;
        let process = request.process;
        let key = Key {
            client,
            server: request.server,
            asked: request.asked,
            status,
            process: process.as_ref().map(|one| (one.pid, one.start_ns)),
        };
        if self.groups.len() >= IMDS_REQUESTS_MAX && !self.groups.contains_key(&key) {
            return false;
        }
        let ts_ns = request.ts_ns;
        let group = self.groups.entry(key).or_insert_with_key(|key| {
            let asked = key.asked.clone();
            ImdsRequest {
                time_ns: ts_ns,
                client,
                client_port,
                server: key.server,
                process,
                count: 0,
                method: asked.method,
                class: Some(asked.class),
                path: asked.path,
                role: asked.role,
                version: asked.version,
                status,
                host: asked.host,
                forwarded: asked.forwarded,
                user_agent: asked.user_agent,
            }
        });
        group.count = group.count.saturating_add(1);
        if ts_ns < group.time_ns {
            (group.time_ns, group.client_port) = (ts_ns, client_port);
        }
        true
    }

    /// Hands out the requests whose answer came, or is not to be expected any more at `until_ns`,
    /// in order of time; with those that found no room.
    pub(crate) fn close(&mut self, until_ns: u64) -> (Vec<ImdsRequest>, u64) {
        let mut unanswered = Vec::new();
        self.waiting.retain(|_, queue| {
            while let Some(first) = queue.front() {
                if first.ts_ns.saturating_add(IMDS_WAIT_NS) > until_ns {
                    break;
                }
                unanswered.extend(queue.pop_front());
            }
            !queue.is_empty()
        });
        self.waiting_count -= unanswered.len();
        unanswered.sort_by(|a, b| order(a).cmp(&order(b)));
        let mut cut = 0;
        for request in unanswered {
            cut += u64::from(!self.count(request, None));
        }
        let mut all: Vec<ImdsRequest> = self.groups.drain().map(|(_, group)| group).collect();
        all.sort_unstable_by(|a, b| {
            let key = |one: &ImdsRequest| (one.time_ns, one.client, one.client_port, one.status);
            key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
        });
        (all, cut)
    }
}

fn order(waiting: &Waiting) -> (u64, (IpAddr, u16), &str) {
    (waiting.ts_ns, waiting.client, &waiting.asked.path)
}
