//! The run's own certificate authority. The sandbox trusts it and nobody else does; it is made before
//! the sandbox starts and forgotten with the run. Its key never leaves this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use belljar_base::bounds::{EGRESS_CERTIFICATE_SECONDS, EGRESS_CERTIFICATES_MAX};
use belljar_base::{RunId, Timestamp};
use belljar_policy::egress::Host;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::gate::GateError;

/// Makes certificates for the hosts whose TLS the gate looks into.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    leaf_key: KeyPair,
    began: Timestamp,
    serial: AtomicU64,
    ready: Mutex<HashMap<Host, Arc<ServerConfig>>>,
}

/// A certificate could not be made for a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The certificate itself.
    #[error("could not make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The settings it is used with.
    #[error("could not use a certificate")]
    Settings(#[from] rustls::Error),
}

impl Authority {
    /// A new authority for a run that begins now.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(run: RunId, now: Timestamp) -> Result<Self, GateError> {
        Self::make(run, now).map_err(GateError::Authority)
    }

    fn make(run: RunId, now: Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Belljar {run}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        date(&mut params, now);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            leaf_key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            began: now,
            serial: AtomicU64::new(now.as_millis()),
            ready: Mutex::default(),
        })
    }

    /// The certificate that the sandbox is to trust, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate that the sandbox is to trust, as DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// How to answer TLS as this host, and as this host alone: settings and resumed sessions are not
    /// shared with any other.
    pub(crate) fn server(&self, host: &Host) -> Result<Arc<ServerConfig>, IssueError> {
        let known = self.hold().get(host).map(Arc::clone);
        if let Some(known) = known {
            return Ok(known);
        }
        let made = Arc::new(self.settings(host)?);
        let mut ready = self.hold();
        if ready.len() >= EGRESS_CERTIFICATES_MAX {
            ready.clear();
        }
        ready.insert(host.clone(), Arc::clone(&made));
        Ok(made)
    }

    fn hold(&self) -> std::sync::MutexGuard<'_, HashMap<Host, Arc<ServerConfig>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self, host: &Host) -> Result<ServerConfig, IssueError> {
        let leaf = self.leaf(host)?;
        let chain = vec![leaf, CertificateDer::from(self.der().to_vec())];
        let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::Pkcs8(key))?;
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(settings)
    }

    fn leaf(&self, host: &Host) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::default();
        // A common name may have 64 characters; clients look at the alternative names alone.
        let common: String = host.to_string().chars().take(64).collect();
        params.distinguished_name = named(&common);
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Clients that see one issuer's serial number twice take the second for a forgery.
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        date(&mut params, self.began);
        let made = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(made.der().clone())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// From an hour ago, for a sandbox whose clock is behind, until the bound.
fn date(params: &mut CertificateParams, now: Timestamp) {
    let began = date_time_ymd(1970, 1, 1) + Duration::from_millis(now.as_millis());
    params.not_before = began - Duration::from_secs(3600);
    params.not_after = began + Duration::from_secs(EGRESS_CERTIFICATE_SECONDS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_own_settings() {
        let run = RunId::new(Timestamp::from_millis(1_795_132_800_000), 7);
        let authority = Authority::new(run, Timestamp::from_millis(1_795_132_800_000)).unwrap();
        assert!(authority.pem().starts_with("-----BEGIN CERTIFICATE-----"));
        let (a, b) = ("a.example.com", "127.0.0.1");
        let a = authority.server(&a.parse().unwrap()).unwrap();
        let b = authority.server(&b.parse().unwrap()).unwrap();
        let again = authority.server(&"A.example.com".parse().unwrap()).unwrap();
        assert!(!Arc::ptr_eq(&a, &b));
        assert!(Arc::ptr_eq(&a, &again));
    }
}
