//! An authority that signs certificates, and the files that a story hands to its processes.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// A folder with `ca.crt` and what [`Authority::sign`] adds.
pub struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority of this name.
    pub fn new(name: &str) -> Authority {
        let dir = tempfile::Builder::new().prefix("certificates-").tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        std::fs::write(dir.path().join("ca.crt"), issuer.pem()).expect("a file");
        Authority { dir, issuer }
    }

    /// Writes the certificate `<file>.crt` for the common name `name`, and then its `<file>.key`.
    pub fn sign(&self, file: &str, name: &str) {
        let key = KeyPair::generate().expect("a key");
        // Nobody has this host name: names are not compared.
        let mut params = CertificateParams::new(vec!["node.invalid".into()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        std::fs::write(self.path(&format!("{file}.crt")), certificate.pem()).expect("a file");
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).expect("a file");
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directives that show the certificate `<file>.crt` and trust this authority.
    pub fn directives(&self, file: &str) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        let (cert, key) = (path(&format!("{file}.crt")), path(&format!("{file}.key")));
        let ca = path("ca.crt");
        format!("tls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n")
    }
}
