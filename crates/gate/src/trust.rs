//! Whom the gate believes on the far side: the host's own roots and those of the settings. A
//! certificate is always checked for the name that was asked for, never for an address it led to.

use std::fmt;
use std::sync::{Arc, OnceLock};

use belljar_policy::egress::Host;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// How to speak TLS to the far side.
pub(crate) struct Trust {
    roots: RootCertStore,
    builder: ConfigBuilder<ClientConfig, WantsVerifier>,
    ready: OnceLock<Clients>,
}

/// Settings that offer HTTP/2 and HTTP/1.1, or HTTP/1.1 alone.
struct Clients {
    both: Arc<ClientConfig>,
    first: Arc<ClientConfig>,
}

impl Trust {
    /// The host's roots and these. The host's are read when they are first needed.
    pub(crate) fn new(roots: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self {
            roots: store,
            builder: ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?,
            ready: OnceLock::new(),
        })
    }

    /// Reads the host's roots, which takes some milliseconds, unless they have been read.
    pub(crate) fn prepare(&self) {
        self.clients();
    }

    /// Settings that offer HTTP/2 and HTTP/1.1, or HTTP/1.1 alone.
    pub(crate) fn client(&self, http2: bool) -> Arc<ClientConfig> {
        let clients = self.clients();
        Arc::clone(if http2 { &clients.both } else { &clients.first })
    }

    fn clients(&self) -> &Clients {
        self.ready.get_or_init(|| {
            let mut store = self.roots.clone();
            // A host without a bundle, or with a broken certificate in it, trusts less; nothing else.
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let store = Arc::new(store);
            Clients {
                both: self.settings(&store, &[b"h2", b"http/1.1"]),
                first: self.settings(&store, &[b"http/1.1"]),
            }
        })
    }

    fn settings(&self, store: &Arc<RootCertStore>, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut settings = (self.builder.clone())
            .with_root_certificates(Arc::clone(store))
            .with_no_client_auth();
        settings.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(settings)
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
