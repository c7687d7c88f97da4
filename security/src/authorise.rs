//! The check before each call: the token, the certificate, and the role.
//!
//! It sees headers only. What it found out goes with the request as a [`Caller`], with which a handler checks
//! whatever the message says about its sender.

use std::pin::Pin;
use std::task::{Context, Poll};

use proto::{Refusal, WorkerId};
use tonic::Status;
use tonic::codegen::http;
use tower::{Layer, Service};
use tracing::warn;

use crate::connection::Peer;
use crate::identity::Identity;
use crate::mode::{Mode, Security};
use crate::policy;
use crate::token::ENTRY;

/// Who makes a call, as far as it is known.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `None` without certificates.
    identity: Option<Identity>,
    peer: Peer,
}

impl Caller {
    /// Returns the caller of a request.
    ///
    /// # Errors
    /// When the server that took it was not made by [`Security::server`]: such a request passed no check.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Refusal> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| Refusal::NotPermitted {
            who: "a caller that passed no check".into(),
            what: "anything".into(),
        })
    }

    /// Checks that the caller is the host of this worker. Without certificates everybody is believed.
    ///
    /// # Errors
    /// When its certificate is of another host.
    pub fn speaks_for(&self, worker: WorkerId) -> Result<(), Refusal> {
        match &self.identity {
            Some(identity) if !identity.speaks_for(worker) => Err(Refusal::NotTheSender {
                who: identity.to_string(),
                worker,
            }),
            _ => Ok(()),
        }
    }

    /// The address that the call comes from, where it is known.
    pub const fn address(&self) -> Option<std::net::SocketAddr> {
        self.peer.address
    }
}

/// Wraps every service of a server in the check.
#[derive(Debug, Clone)]
pub struct Authorise {
    security: Security,
}

impl Authorise {
    pub(crate) const fn new(security: Security) -> Self {
        Self { security }
    }

    fn check(&self, path: &str, headers: &http::HeaderMap, peer: Option<&Peer>) -> Result<Caller, Refusal> {
        if let Some(token) = &self.security.token
            && !token.admits(headers.get(ENTRY).map(http::HeaderValue::as_bytes))
        {
            return Err(Refusal::WrongToken);
        }
        let not_permitted = |who: String| Refusal::NotPermitted {
            who,
            what: path.to_owned(),
        };
        let peer = peer.ok_or_else(|| not_permitted("an unknown connection".into()))?;
        let identity = match (&self.security.mode, &peer.identity) {
            (Mode::Loopback | Mode::OpenNetwork, _) => None,
            (Mode::Tls(_), Some(Ok(identity))) => Some(identity.clone()),
            (Mode::Tls(_), Some(Err(error))) => return Err(not_permitted(format!("a caller ({error})"))),
            (Mode::Tls(_), None) => return Err(not_permitted("a caller without a certificate".into())),
        };
        if let Some(identity) = &identity
            && !policy::rule(path).is_some_and(|rule| rule.roles.contains(&identity.role()))
        {
            return Err(not_permitted(identity.to_string()));
        }
        let peer = peer.clone();
        Ok(Caller { identity, peer })
    }
}

impl<S> Layer<S> for Authorise {
    type Service = Authorised<S>;

    fn layer(&self, inner: S) -> Authorised<S> {
        let authorise = self.clone();
        Authorised { authorise, inner }
    }
}

/// A service behind the check.
#[derive(Debug, Clone)]
pub struct Authorised<S> {
    authorise: Authorise,
    inner: S,
}

impl<S, Request, Answer> Service<http::Request<Request>> for Authorised<S>
where
    S: Service<http::Request<Request>, Response = http::Response<Answer>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Answer: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Request>) -> Self::Future {
        let peer = request.extensions().get::<Peer>();
        let checked = self
            .authorise
            .check(request.uri().path(), request.headers(), peer);
        match checked {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(refusal) => {
                let address = peer.and_then(|peer| peer.address);
                warn!(?address, reason = %refusal, "call refused");
                Box::pin(async { Ok(Status::from(refusal).into_http()) })
            }
        }
    }
}
