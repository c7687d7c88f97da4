//! Makes a cluster's own certificate authority, and issues certificates that name a role and a host.
//!
//! Files appear whole or not at all, so a process that reads them while they are replaced sees the old ones or the new
//! ones. Keys are readable for their owner only.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::credentials::{AUTHORITY, Files, read_limited};
use crate::error::SecurityError;
use crate::identity::Identity;

/// An authority: the certificate that everybody trusts, and the key that signs.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Order {
    /// Whom it names.
    pub identity: Identity,
    /// DNS names and IP addresses that the host is reached at.
    pub hosts: Vec<String>,
    /// When it begins to be valid.
    pub from: SystemTime,
    /// For how long.
    pub lifetime: Duration,
}

/// A certificate with its key, as PEM text.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// The authority's certificate.
    pub authority: String,
}

impl Authority {
    /// Makes a new authority, in memory.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate(
        name: &str,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<(Self, String), SecurityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (from.into(), (from + lifetime).into());
        let pem = params.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        let issuer = Issuer::new(params, key);
        Ok((Self { pem, issuer }, key_pem))
    }

    /// Makes a new authority in a folder: `ca.crt` and `ca.key`.
    ///
    /// # Errors
    /// When there is one, or the files cannot be written.
    pub fn init(
        folder: &Path,
        name: &str,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<Self, SecurityError> {
        let (certificate, key) = (folder.join(AUTHORITY), folder.join(AUTHORITY_KEY));
        for path in [&certificate, &key] {
            if path.exists() {
                return Err(SecurityError::Exists { path: path.clone() });
            }
        }
        let (authority, key_pem) = Self::generate(name, from, lifetime)?;
        make_folder(folder)?;
        write(&key, &key_pem, SECRET)?;
        write(&certificate, &authority.pem, PUBLIC)?;
        Ok(authority)
    }

    /// Reads the authority of a folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn open(folder: &Path) -> Result<Self, SecurityError> {
        let text = |path: PathBuf| {
            let bytes = read_limited(&path)?;
            String::from_utf8(bytes).map_err(|_| SecurityError::Unusable {
                path,
                reason: "it is not text".into(),
            })
        };
        let pem = text(folder.join(AUTHORITY))?;
        let key = KeyPair::from_pem(&text(folder.join(AUTHORITY_KEY))?)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self { pem, issuer })
    }

    /// Issues a certificate with a new key.
    ///
    /// # Errors
    /// When a host name is none, or the system gives no random numbers.
    pub fn issue(&self, order: &Order) -> Result<Issued, SecurityError> {
        let mut params = CertificateParams::new(order.hosts.clone())?;
        params
            .distinguished_name
            .push(DnType::CommonName, order.identity.name());
        params
            .subject_alt_names
            .push(SanType::URI(order.identity.to_string().try_into()?));
        self.sign(params, order.from, order.lifetime)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        from: SystemTime,
        lifetime: Duration,
    ) -> Result<Issued, SecurityError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Workers are servers to one neighbour and clients of the other.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        (params.not_before, params.not_after) = (from.into(), (from + lifetime).into());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority: self.pem.clone(),
        })
    }
}

impl Issued {
    /// Writes the three files of a host into a folder, in place of those that are there.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), SecurityError> {
        make_folder(folder)?;
        let files = Files::of(folder);
        write(&files.authority, &self.authority, PUBLIC)?;
        write(&files.key, &self.key, SECRET)?;
        write(&files.certificate, &self.certificate, PUBLIC)
    }
}

fn make_folder(folder: &Path) -> Result<(), SecurityError> {
    fs::create_dir_all(folder).map_err(|cause| unwritable(folder, cause))
}

/// Writes a file beside its place and renames it into it.
fn write(path: &Path, text: &str, permissions: u32) -> Result<(), SecurityError> {
    let beside = path.with_extension("new");
    let written = || {
        // What a killed process left behind.
        let _ = fs::remove_file(&beside);
        let mut file = open_new(&beside, permissions)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    written().map_err(|cause| unwritable(path, cause))
}

fn open_new(path: &Path, permissions: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(permissions)
        .open(path)
}

fn unwritable(path: &Path, cause: io::Error) -> SecurityError {
    SecurityError::Unwritable {
        path: path.to_owned(),
        cause,
    }
}

const AUTHORITY_KEY: &str = "ca.key";
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::credentials::Credentials;
    use crate::identity::Role;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn order(name: &str) -> Order {
        Order {
            identity: Identity::new(Role::Worker, name).unwrap(),
            hosts: vec!["localhost".into(), "127.0.0.1".into(), "::1".into()],
            from: SystemTime::now(),
            lifetime: DAY,
        }
    }

    #[test]
    fn what_is_issued_is_read_back_by_name_and_keys_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let (ca, host) = (folder.path().join("ca"), folder.path().join("host"));
        Authority::init(&ca, "test", SystemTime::now(), DAY).unwrap();
        // Opened again, as `certs issue` does on another day.
        let authority = Authority::open(&ca).unwrap();
        authority.issue(&order("gpu-1")).unwrap().write(&host).unwrap();
        let identity = Credentials::open(&host).unwrap().identity();
        assert_eq!(identity.to_string(), "ringmaster://worker/gpu-1");
        for key in [ca.join("ca.key"), host.join("tls.key")] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn an_authority_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        Authority::init(folder.path(), "test", SystemTime::now(), DAY).unwrap();
        let again = Authority::init(folder.path(), "test", SystemTime::now(), DAY);
        assert!(matches!(again, Err(SecurityError::Exists { .. })));
    }

    #[test]
    fn a_changed_certificate_is_read_again_and_a_wrong_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::generate("test", SystemTime::now(), DAY).unwrap();
        authority
            .issue(&order("gpu-1"))
            .unwrap()
            .write(folder.path())
            .unwrap();
        let credentials = Credentials::open(folder.path()).unwrap();
        let first = credentials.current();
        assert!(std::sync::Arc::ptr_eq(&first, &credentials.current()));

        authority
            .issue(&order("gpu-1"))
            .unwrap()
            .write(folder.path())
            .unwrap();
        let second = credentials.current();
        assert!(!std::sync::Arc::ptr_eq(&first, &second));

        // Somebody else's certificate, and a key that does not belong to it.
        authority
            .issue(&order("gpu-2"))
            .unwrap()
            .write(folder.path())
            .unwrap();
        assert!(std::sync::Arc::ptr_eq(&second, &credentials.current()));
        let stray = authority.issue(&order("gpu-1")).unwrap();
        fs::write(folder.path().join("tls.key"), &stray.key).unwrap();
        assert!(std::sync::Arc::ptr_eq(&second, &credentials.current()));
        fs::write(folder.path().join("tls.crt"), &stray.certificate).unwrap();
        assert!(!std::sync::Arc::ptr_eq(&second, &credentials.current()));
    }
}
