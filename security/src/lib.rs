//! Who may connect, and who may call what: mutual TLS, roles, the join token, and limits on connections.
//!
//! A certificate names a role and a host in one URI, `ringmaster://ROLE/NAME`. Both ends of every connection show
//! one that the cluster's own authority has signed. [`policy`] is the table of calls and roles; [`Authorise`] applies it
//! before a handler sees a byte. What a message says about its sender is checked by the handler with
//! [`Caller::speaks_for`], for only it can read the message.
//!
//! Without certificates there is only [`Security::loopback`], which neither listens on nor connects to
//! another machine, and [`Security::open_network`] for people who say so in so many words.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | roles and names in certificates, and which worker ids belong to a name |
//! | [`policy`] | the table: which role may call what |
//! | [`authority`] | makes the authority and issues certificates |
//! | [`credentials`] | a host's certificate, read again when its files change |
//! | [`token`] | the join token |
//! | [`listener`], [`connection`] | accepting connections: TLS, limits, deadlines |
//! | [`client`] | opening connections |
//! | [`network`] | the network under both: this machine's, or one of a test |
//! | [`authorise`] | the check before each call |
//! | [`args`] | the command line |
//!
//! It is a crate of its own because it is the one place that holds keys and reads key files: `proto` stays free of
//! files and sockets, and `coordinator` and `worker` only say where they listen and whom they expect to reach.
//!
//! It deliberately knows no membership: who is whose neighbour in which generation is decided where that is known.

pub mod args;
pub mod authorise;
pub mod authority;
pub mod client;
pub mod connection;
pub mod credentials;
pub mod identity;
pub mod listener;
pub mod network;
pub mod policy;
pub mod token;

mod error;
mod mode;
mod near;
mod verify;

pub use args::SecurityArgs;
pub use authorise::{Authorise, Caller};
pub use client::{Channel, Expect};
pub use error::SecurityError;
pub use identity::{Identity, Role};
pub use listener::ConnectionLimits;
pub use mode::Security;
