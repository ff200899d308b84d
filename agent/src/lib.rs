//! picket's sensor for Linux hosts: everything that touches the world around [`picket_sense`],
//! which does the thinking.

pub mod attribution;
pub mod block;
pub mod capture;
pub mod command;
pub mod config;
pub mod doctor;
pub mod enrol;
pub mod feeds;
pub mod filter;
pub mod health;
pub mod hostname;
pub mod identity;
pub mod imds;
pub mod intel;
mod log;
pub mod machine;
pub mod manager;
pub mod metrics;
pub mod net;
pub mod outbox;
pub mod privacy;
pub mod privilege;
pub mod pulse;
pub mod run;
pub mod ship;
pub mod spool;
pub mod standalone;
pub mod state;
pub mod status;
pub mod telling;
pub mod tls;
pub mod top;
pub mod watch;
