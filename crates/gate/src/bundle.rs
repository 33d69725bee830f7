//! The certificates that programs inside trust: the host's own bundle and the run's authority, in
//! the two forms that programs read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The bundle as PEM: what the host trusts, what the run was told to trust beside it, and the run's
/// authority.
#[must_use]
pub fn pem_bundle(system: &[u8], roots: &[CertificateDer<'_>], authority: &str) -> Vec<u8> {
    let mut all = Vec::with_capacity(system.len() + authority.len() + 1);
    all.extend_from_slice(system);
    if !system.is_empty() && !system.ends_with(b"\n") {
        all.push(b'\n');
    }
    for root in roots {
        all.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(root);
        for line in text.as_bytes().chunks(64) {
            all.extend_from_slice(line);
            all.push(b'\n');
        }
        all.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    all.extend_from_slice(authority.as_bytes());
    all
}

/// The password that Java's own trust store has; it guards nothing.
const PASSWORD: &str = "changeit";
/// The first bytes of a Java key store, and its version.
const MAGIC: [u8; 8] = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2];
/// What a Java key store's checksum is salted with.
const SALT: &[u8] = b"Mighty Aphrodite";
/// Marks an entry that is a trusted certificate.
const TRUSTED: [u8; 4] = [0, 0, 0, 2];

/// The certificates of a PEM bundle as a Java key store (format JKS, which every Java reads).
/// What is no certificate is passed over.
#[must_use]
pub fn java_store(bundle: &[u8], created_ms: u64) -> Vec<u8> {
    let certificates: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(bundle)
        .filter_map(Result::ok)
        .collect();
    let mut store = MAGIC.to_vec();
    store.extend(length(certificates.len()));
    for (number, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED);
        text(&mut store, &format!("belljar-{number}"));
        store.extend(created_ms.to_be_bytes());
        text(&mut store, "X.509");
        store.extend(length(certificate.len()));
        store.extend_from_slice(certificate);
    }
    let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let password: Vec<u8> = PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    sum.update(&password);
    sum.update(SALT);
    sum.update(&store);
    store.extend_from_slice(sum.finish().as_ref());
    store
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// Java's form of a short text: its length, then its bytes.
fn text(store: &mut Vec<u8>, text: &str) {
    let bytes = u16::try_from(text.len()).unwrap_or(u16::MAX);
    store.extend(bytes.to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
        parameters.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_bundle_keeps_both() {
        let (system, own) = (authority(), authority());
        let root = CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
        let all = pem_bundle(
            system.trim_end().as_bytes(),
            std::slice::from_ref(&root),
            &own,
        );
        let found: Vec<_> = CertificateDer::pem_slice_iter(&all)
            .map(Result::unwrap)
            .collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found.get(1), Some(&root));
    }

    #[test]
    fn a_store_holds_every_certificate_and_its_checksum() {
        let all = pem_bundle(authority().as_bytes(), &[], &authority());
        let store = java_store(&all, 7);
        assert_eq!(store.first_chunk::<8>(), Some(&MAGIC));
        assert_eq!(store.get(8..12), Some(&[0, 0, 0, 2][..]));
        for certificate in CertificateDer::pem_slice_iter(&all) {
            let certificate = certificate.unwrap();
            let found = store.windows(certificate.len());
            assert_eq!(
                found
                    .filter(|window| *window == certificate.as_ref())
                    .count(),
                1
            );
        }
        // The checksum is over everything before it.
        let (body, sum) = store.split_last_chunk::<20>().unwrap();
        assert_ne!(sum, &[0; 20]);
        assert!(body.len() > all.len() / 2);
    }

    #[test]
    fn what_is_no_certificate_is_passed_over() {
        let store = java_store(
            b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            0,
        );
        assert_eq!(store.get(8..12), Some(&[0, 0, 0, 0][..]));
    }
}
