//! The command, end to end, as a process.

mod endings;
mod models;
mod options;
mod records;
mod signals;
mod terminal;
mod workloads;
