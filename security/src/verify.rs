//! How a client checks the server's certificate: signed by the authority, and naming whom it expects.
//!
//! Workers are known by the id that the roster gives, not by a DNS name: their addresses may be of pods or of interfaces
//! that no certificate lists. A coordinator is known by role and by the name it is reached at.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::client::Expect;
use crate::identity::{Identity, Role};

/// Checks that the server is who is expected.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    roots: Arc<RootCertStore>,
    expect: Expect,
    provider: Arc<CryptoProvider>,
}

/// The server is somebody, but not who was expected.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is that of {found}, expected was {expected}")]
struct Unexpected {
    found: String,
    expected: String,
}

impl ServerVerifier {
    pub(crate) fn new(roots: Arc<RootCertStore>, expect: Expect, provider: Arc<CryptoProvider>) -> Self {
        Self {
            roots,
            expect,
            provider,
        }
    }

    fn check_identity(
        &self,
        certificate: &ParsedCertificate<'_>,
        der: &[u8],
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let identity = Identity::of_certificate(der);
        let is_expected = match (&identity, self.expect) {
            (Ok(identity), Expect::Coordinator) => {
                verify_server_name(certificate, name)?;
                identity.role() == Role::Coordinator
            }
            (Ok(identity), Expect::Worker(worker)) => identity.speaks_for(worker),
            (Ok(_), Expect::Anyone) => true,
            (Err(_), _) => false,
        };
        if is_expected {
            return Ok(());
        }
        let unexpected = Unexpected {
            found: identity.map_or_else(|error| format!("nobody ({error})"), |found| found.to_string()),
            expected: self.expect.to_string(),
        };
        Err(CertificateError::Other(OtherError(Arc::new(unexpected))).into())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.check_identity(&certificate, end_entity, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
