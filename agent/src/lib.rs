//! picket's sensor for Linux hosts: everything that touches the world around [`picket_sense`],
//! which does the thinking.

pub mod capture;
pub mod command;
