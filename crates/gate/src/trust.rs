//! Whom the gate believes on the far side: the host's own roots and those of the settings. A
//! certificate is always checked for the name that was asked for, never for an address it led to.

use std::fmt;
use std::sync::Arc;

use belljar_policy::egress::Host;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// How to speak TLS to the far side.
pub(crate) struct Trust {
    both: Arc<ClientConfig>,
    first: Arc<ClientConfig>,
}

impl Trust {
    /// The host's roots and these.
    pub(crate) fn new(roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut store = RootCertStore::empty();
        // A host without a bundle, or with a broken certificate in it, trusts less; nothing else.
        let system = rustls_native_certs::load_native_certs().certs;
        store.add_parsable_certificates(system);
        for root in roots {
            store.add(root.clone())?;
        }
        let store = Arc::new(store);
        Ok(Self {
            both: Arc::new(settings(&store, &[b"h2", b"http/1.1"])?),
            first: Arc::new(settings(&store, &[b"http/1.1"])?),
        })
    }

    /// Settings that offer HTTP/2 and HTTP/1.1, or HTTP/1.1 alone.
    pub(crate) fn client(&self, http2: bool) -> Arc<ClientConfig> {
        Arc::clone(if http2 { &self.both } else { &self.first })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}

/// What the far side's certificate must be for.
pub(crate) fn server_name(host: &Host) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()),
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}

fn settings(
    store: &Arc<RootCertStore>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(store))
        .with_no_client_auth();
    settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(settings)
}
