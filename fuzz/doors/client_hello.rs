//! The first words of TLS: the first byte says how long the records are in which the rest arrives.

use std::io;

use belljar_gate::hello::{Reading, read};

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    look(bytes);
    if let Some((piece, message)) = bytes.split_first() {
        let piece = usize::from(*piece).max(1);
        let (cut, whole) = (records(message, piece), records(message, 1 << 14));
        look(&cut);
        look(&whole);
        // However the bytes are cut into records, what is read of them is the same.
        if let (Reading::Whole(cut), Reading::Whole(whole)) = (read(&cut), read(&whole)) {
            assert_eq!(cut, whole);
        }
    }
    Ok(())
}

/// A beginning asks for more or is the whole, and never something else; a name is canonical.
fn look(bytes: &[u8]) {
    let Reading::Whole(hello) = read(bytes) else {
        return;
    };
    if let Some(name) = &hello.name {
        assert_eq!(name.to_string().parse().as_ref(), Ok(name));
    }
    for length in 0..bytes.len() {
        match read(bytes.get(..length).unwrap_or_default()) {
            Reading::More => {}
            Reading::Whole(earlier) => assert_eq!(earlier, hello),
            Reading::Refused(reason) => assert_eq!(reason, "", "at {length}"),
        }
    }
}

fn records(message: &[u8], piece: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        [&[22, 3, 1][..], &length.to_be_bytes(), piece].concat()
    };
    message.chunks(piece).flat_map(record).collect()
}
