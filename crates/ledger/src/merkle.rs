//! The Merkle tree of RFC 6962: hashes, the frontier that grows it, proofs and their checks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256. As text: 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

/// The text is not a SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hash: 64 of 0-9 and a-f")]
pub struct ParseHashError(String);

impl Hash {
    /// Before the first record: what its `prev` says.
    pub const ZERO: Self = Self([0; 32]);

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The SHA-256 of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of a leaf: SHA-256(0x00 ‖ bytes).
    #[must_use]
    pub fn leaf(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new_with_prefix([0]);
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }

    /// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut hasher = Sha256::new_with_prefix([1]);
        hasher.update(left.0);
        hasher.update(right.0);
        Self(hasher.finalize().into())
    }

    /// Its text, as bytes.
    pub(crate) fn to_hex(self) -> [u8; 64] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'0'; 64];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            let digit = |four: u8| HEX.get(usize::from(four)).copied().unwrap_or(b'0');
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        out
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_hex()))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseHashError(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(refuse());
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let four = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _other => return Err(refuse()),
                };
                *byte = (*byte << 4) | four;
            }
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Hash {
    type Error = ParseHashError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// The right edge of a tree: enough to add leaves and to tell the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the perfect subtrees, largest first: one per set bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// From a size and the roots of its perfect subtrees, largest first.
    #[must_use]
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        let fits = usize::try_from(size.count_ones()).is_ok_and(|ones| ones == peaks.len());
        fits.then_some(Self { size, peaks })
    }

    /// How many leaves the tree has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        let mut level = self.size;
        while level & 1 == 1 {
            if let Some(left) = self.peaks.pop() {
                hash = Hash::node(&left, &hash);
            }
            level >>= 1;
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The Merkle tree hash.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Hash::of(b"");
        };
        peaks.fold(*last, |right, left| Hash::node(left, &right))
    }
}

/// The Merkle tree hash of these leaves.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The proof that leaf `index` is in the tree of `leaves`; nothing when there is no such leaf.
#[must_use]
pub fn prove_inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    leaves.get(index)?;
    let (mut part, mut index) = (leaves, index);
    let mut path = Vec::new();
    while part.len() > 1 {
        let (left, right) = part.split_at_checked(largest_power_below(part.len()))?;
        if index < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The proof that the tree of the first `old` leaves is a beginning of the tree of all.
#[must_use]
pub fn prove_consistency(leaves: &[Hash], old: usize) -> Option<Vec<Hash>> {
    if old == 0 || old > leaves.len() {
        return None;
    }
    let (mut part, mut old, mut whole) = (leaves, old, true);
    let mut path = Vec::new();
    while old < part.len() {
        let (left, right) = part.split_at_checked(largest_power_below(part.len()))?;
        if old <= left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            old -= left.len();
            part = right;
            whole = false;
        }
    }
    if !whole {
        path.push(root(part));
    }
    path.reverse();
    Some(path)
}

/// Whether `proof` shows that `leaf` is number `index` of the tree of `size` leaves with `root`.
#[must_use]
pub fn check_inclusion(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for step in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = Hash::node(step, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::node(&hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree `old` is a beginning of the tree `new`; (size, root) each.
#[must_use]
pub fn check_consistency(old: (u64, Hash), new: (u64, Hash), proof: &[Hash]) -> bool {
    if old.0 == new.0 {
        return proof.is_empty() && old.1 == new.1;
    }
    if old.0 == 0 || old.0 > new.0 {
        return old.0 == 0 && proof.is_empty();
    }
    let mut steps = proof.iter();
    let (mut node, mut last) = (old.0 - 1, new.0 - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // A perfect old tree is its own first step.
    let first = if node == 0 {
        Some(&old.1)
    } else {
        steps.next()
    };
    let Some(first) = first else {
        return false;
    };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = Hash::node(step, &old_hash);
            new_hash = Hash::node(step, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::node(&new_hash, step);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old.1 && new_hash == new.1
}

/// The largest power of two smaller than `count`, for a count of at least two.
fn largest_power_below(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(b""),
            [one] => *one,
            many => {
                let mut split = 1;
                while split * 2 < many.len() {
                    split *= 2;
                }
                Hash::node(&naive(&many[..split]), &naive(&many[split..]))
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| Hash::leaf(&n.to_le_bytes())).collect()
    }

    #[test]
    fn known_roots() {
        // Test vectors of the Certificate Transparency projects.
        let inputs: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        let leaves: Vec<_> = inputs.iter().map(|input| Hash::leaf(input)).collect();
        let check = |count: usize, hex: &str| {
            assert_eq!(root(&leaves[..count]).to_string(), hex);
        };
        check(
            0,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        check(
            1,
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        );
        check(
            2,
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        );
        check(
            3,
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        );
    }

    #[test]
    fn every_small_tree() {
        for size in 0..70_usize {
            let leaves = leaves(size);
            let whole = naive(&leaves);
            assert_eq!(root(&leaves), whole);
            let size_u64 = u64::try_from(size).unwrap();
            for index in 0..size {
                let proof = prove_inclusion(&leaves, index).unwrap();
                let index_u64 = u64::try_from(index).unwrap();
                let holds = |at, proof: &[Hash]| {
                    check_inclusion(leaves[index], at, size_u64, proof, &whole)
                };
                assert!(holds(index_u64, &proof), "{index} of {size}");
                assert!(!holds(index_u64 + 1, &proof));
                let old = (index_u64 + 1, naive(&leaves[..=index]));
                let proof = prove_consistency(&leaves, index + 1).unwrap();
                assert!(
                    check_consistency(old, (size_u64, whole), &proof),
                    "{index} {size}"
                );
                let wrong = (old.0, Hash::of(b"other"));
                assert!(!check_consistency(wrong, (size_u64, whole), &proof));
            }
            assert_eq!(prove_inclusion(&leaves, size), None);
            assert_eq!(prove_consistency(&leaves, size + 1), None);
        }
    }

    proptest! {
        #[test]
        fn a_changed_proof_fails(size in 2_usize..300, pick: prop::sample::Index, bit in 0_usize..256) {
            let leaves = leaves(size);
            let index = pick.index(size);
            let mut proof = prove_inclusion(&leaves, index).unwrap();
            let place = pick.index(proof.len());
            proof[place].0[bit / 8] ^= 1 << (bit % 8);
            let (index, size) = (u64::try_from(index).unwrap(), u64::try_from(size).unwrap());
            let leaf = leaves[usize::try_from(index).unwrap()];
            prop_assert!(!check_inclusion(leaf, index, size, &proof, &root(&leaves)));
        }

        #[test]
        fn hash_text_and_back(bytes: [u8; 32]) {
            let hash = Hash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        }
    }
}
