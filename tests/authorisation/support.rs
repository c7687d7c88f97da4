//! A coordinator and a worker's exchange behind TLS, certificates of all kinds, and a client that checks nothing.

use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coordinator::membership::Timing;
use coordinator::{CoordinatorConfig, Shutdown, listen, run};
use hyper_util::rt::TokioIo;
use probe::Doctor;
use proto::{Address, Generation, Member, Recipe, RunId, WorkerId, transport};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use security::authority::{Authority, Issued, Order};
use security::credentials::Credentials;
use security::{ConnectionLimits, Identity, Role, Security};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Uri};
use tonic::{Request, Status};
use worker::prober::Prober;
use worker::ring::links::{Broken, Inbound};
use worker::ring::service::Exchange;
use worker::ring::state_service::States;

pub(crate) const TOKEN: &str = "the-join-token-of-tests";
pub(crate) const RUN: RunId = RunId::from_u128(1);
/// The generation that the exchange is in.
pub(crate) const NOW: Generation = Generation(5);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate and its key, and the authority that the holder trusts.
pub(crate) struct Holder {
    issued: Issued,
    trusts: String,
}

/// What is attacked.
pub(crate) struct Cluster {
    folder: TempDir,
    authority: Authority,
    authority_pem: String,
    pub(crate) coordinator: Address,
    pub(crate) exchange: Address,
    /// The left neighbour of the exchange, of host a.
    pub(crate) left: WorkerId,
    _inbound: Inbound,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority =
            Authority::init(&folder.path().join("ca"), "tests", SystemTime::now(), 2 * DAY).unwrap();
        let authority_pem = std::fs::read_to_string(folder.path().join("ca/ca.crt")).unwrap();
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();

        let security = security(&folder, &authority, Role::Coordinator, "c");
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let coordinator: Address = listener.local_addr().unwrap().into();
        let mut config = CoordinatorConfig::new(Recipe::default(), 2).unwrap();
        config.project = folder.path().join("runs");
        config.timing = Timing {
            settle: Duration::from_millis(50),
            ..Timing::default()
        };
        config.security = security;
        let (progress, mut news) = mpsc::channel(64);
        tokio::spawn(async move { while news.recv().await.is_some() {} });
        tokio::spawn(run(listener, config, progress, Shutdown::default()));

        let security = security_of_worker(&folder, &authority, "b");
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let exchange: Address = listener.local_addr().unwrap().into();
        let served = Exchange::default();
        let left = Identity::new(Role::Worker, "a").unwrap().new_worker();
        let inbound = served.expect(
            RUN,
            NOW,
            Member {
                rank: 0,
                worker: left,
                host: "a".into(),
                address: exchange.clone(),
            },
            Broken::default(),
        );
        let (reporter, health) = tonic_health::server::health_reporter();
        drop(reporter);
        let incoming = security.incoming(listener, ConnectionLimits::WORKER);
        let prober = Prober::new(security.clone(), coordinator.clone());
        let server = security
            .server()
            .add_service(health)
            .add_service(served.into_service())
            .add_service(States::default().into_service())
            .add_service(Doctor::new(folder.path().to_owned()).into_service())
            .add_service(prober.into_service());
        tokio::spawn(server.serve_with_incoming(incoming));
        Self {
            folder,
            authority,
            authority_pem,
            coordinator,
            exchange,
            left,
            _inbound: inbound,
        }
    }

    /// The servers that offer a call.
    pub(crate) fn servers_of(&self, path: &str) -> Vec<&Address> {
        if path.starts_with("/grpc.health") || path.contains("DoctorService") {
            vec![&self.coordinator, &self.exchange]
        } else if ["Exchange", "State", "Probe"]
            .iter()
            .any(|name| path.contains(&format!("{name}Service")))
        {
            vec![&self.exchange]
        } else {
            vec![&self.coordinator]
        }
    }

    /// A good certificate.
    pub(crate) fn holder(&self, role: Role, name: &str) -> Holder {
        self.issue(
            &self.authority,
            order(role, name, SystemTime::now() - DAY, 2 * DAY),
        )
    }

    /// One of an authority that nobody here trusts.
    pub(crate) fn stranger(&self, role: Role) -> Holder {
        let (other, _) = Authority::generate("tests", SystemTime::now(), 2 * DAY).unwrap();
        self.issue(&other, order(role, "a", SystemTime::now(), DAY))
    }

    pub(crate) fn expired(&self, role: Role) -> Holder {
        self.issue(
            &self.authority,
            order(role, "a", SystemTime::now() - 2 * DAY, DAY),
        )
    }

    pub(crate) fn early(&self, role: Role) -> Holder {
        self.issue(
            &self.authority,
            order(role, "a", SystemTime::now() + DAY / 2, DAY),
        )
    }

    /// One of the right authority, for the right address, that names no role.
    pub(crate) fn nameless(&self) -> Holder {
        let ca_key = std::fs::read_to_string(self.folder.path().join("ca/ca.key")).unwrap();
        let issuer =
            Issuer::from_ca_cert_pem(&self.authority_pem, KeyPair::from_pem(&ca_key).unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "a".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let issued = Issued {
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
            authority: self.authority_pem.clone(),
        };
        let trusts = self.authority_pem.clone();
        Holder { issued, trusts }
    }

    /// A process of this host, as the programs make it.
    pub(crate) fn worker(&self, name: &str) -> Security {
        security_of_worker(&self.folder, &self.authority, name)
    }

    /// A person at a command line.
    pub(crate) fn operator(&self) -> Security {
        security(&self.folder, &self.authority, Role::Operator, "operator")
    }

    fn issue(&self, authority: &Authority, order: Order) -> Holder {
        Holder {
            issued: authority.issue(&order).unwrap(),
            trusts: self.authority_pem.clone(),
        }
    }
}

fn security_of_worker(folder: &TempDir, authority: &Authority, name: &str) -> Security {
    security(folder, authority, Role::Worker, name)
}

fn security(folder: &TempDir, authority: &Authority, role: Role, name: &str) -> Security {
    let files = folder.path().join(name);
    let order = order(role, name, SystemTime::now() - DAY, 2 * DAY);
    authority.issue(&order).unwrap().write(&files).unwrap();
    Security::tls(Credentials::open(&files).unwrap())
        .with_token_file(folder.path().join("token"))
        .unwrap()
}

fn order(role: Role, name: &str, from: SystemTime, lifetime: Duration) -> Order {
    Order {
        identity: Identity::new(role, name).unwrap(),
        hosts: vec!["localhost".into(), "127.0.0.1".into()],
        from,
        lifetime,
    }
}

/// Makes a call with an empty message, and returns once it is answered or refused.
pub(crate) async fn call(
    address: &Address,
    holder: Option<&Holder>,
    token: Option<&str>,
    path: &str,
) -> Result<(), Status> {
    let channel = connect(address, holder).await?;
    send(channel, token, path).await
}

/// The same in plain text.
pub(crate) async fn call_plainly(address: &Address, path: &str) -> Result<(), Status> {
    let channel = transport::endpoint(address)
        .connect()
        .await
        .map_err(unavailable)?;
    send(channel, Some(TOKEN), path).await
}

async fn send(channel: Channel, token: Option<&str>, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(unavailable)?;
    let mut request = Request::new(tokio_stream::once(()));
    if let Some(token) = token {
        let value = MetadataValue::from_str(&format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_str(path).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), grpc.streaming(request, path, codec));
    answer.await.expect("an answer in time").map(drop)
}

/// Connects as an attacker does: with whatever certificate, and without a look at the server's role.
pub(crate) async fn connect(address: &Address, holder: Option<&Holder>) -> Result<Channel, Status> {
    let config = Arc::new(client_config(holder));
    let connector = tower::service_fn(move |uri: Uri| {
        let config = Arc::clone(&config);
        async move {
            let stream = TcpStream::connect((uri.host().unwrap(), uri.port_u16().unwrap())).await?;
            let name = ServerName::try_from("localhost").unwrap();
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = transport::endpoint(address);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(unavailable)
}

fn client_config(holder: Option<&Holder>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&tokio_rustls::rustls::version::TLS13])
        .unwrap();
    let mut config = match holder {
        Some(holder) => {
            roots.add(certificate(&holder.trusts)).unwrap();
            let key = PrivateKeyDer::from_pem_slice(holder.issued.key.as_bytes()).unwrap();
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![certificate(&holder.issued.certificate)], key)
                .unwrap()
        }
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(blind::TrustsEverybody))
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn unavailable(error: tonic::transport::Error) -> Status {
    Status::unavailable(format!("{error:?}"))
}

/// A verifier that verifies nothing.
mod blind {
    use tokio_rustls::rustls::client::danger::{
        HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
    };
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use tokio_rustls::rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct TrustsEverybody;

    impl ServerCertVerifier for TrustsEverybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
}
