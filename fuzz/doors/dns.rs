//! One DNS message of a sandbox, as it comes in a datagram; told to a judge who allows every name,
//! and to one who denies every name.

use std::io;

use belljar_base::bounds::DNS_ANSWER_BYTES_MAX;
use belljar_gate::dns::answer;

/// Where the counts of a message begin, and where they end.
const COUNTS: std::ops::Range<usize> = 4..12;
/// The code for a name that does not exist.
const ABSENT: u8 = 3;

pub(crate) fn enter(bytes: &[u8]) -> io::Result<()> {
    let (allowed, denied) = (answer(bytes, true), answer(bytes, false));
    assert_eq!(allowed.is_some(), denied.is_some());
    if let (Some(allowed), Some(denied)) = (allowed, denied) {
        look(bytes, &allowed);
        look(bytes, &denied);
        // The same question is answered, whatever is decided, and only the right one with records.
        assert_eq!(allowed.get(..2), denied.get(..2));
        if count(&denied, 1) > 0 {
            assert_eq!(
                allowed, denied,
                "only the sandbox itself is told of unasked"
            );
        }
    }
    Ok(())
}

/// Short, an answer, to this question.
fn look(asked: &[u8], answer: &[u8]) {
    assert!(
        answer.len() <= DNS_ANSWER_BYTES_MAX,
        "{} bytes",
        answer.len()
    );
    let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
    assert_eq!(asked.get(..2), answer.get(..2), "another id");
    assert_eq!(byte(asked, 2) & 0x80, 0, "an answer was answered");
    assert_eq!(byte(answer, 2) & 0xF8, 0x80 | byte(asked, 2) & 0x78);
    let (questions, answers) = (count(answer, 0), count(answer, 1));
    assert!(questions <= 1 && answers <= questions);
    assert!(answers == 0 || byte(answer, 3) & 0x0F != ABSENT);
    if questions == 1 {
        let end = end_of_question(asked);
        assert_eq!(asked.get(COUNTS.end..end), answer.get(COUNTS.end..end));
    }
}

/// How many questions (0) or answers (1) a message says it has.
fn count(message: &[u8], section: usize) -> u16 {
    let counts = message.get(COUNTS).unwrap_or_default();
    let pair = counts.chunks_exact(2).nth(section).unwrap_or(&[0, 0]);
    pair.iter()
        .fold(0, |sum, byte| sum * 256 + u16::from(*byte))
}

/// Where the type and class behind the first name end.
fn end_of_question(message: &[u8]) -> usize {
    let mut at = COUNTS.end;
    while let Some(length) = message.get(at).filter(|length| **length != 0) {
        at += usize::from(*length) + 1;
    }
    at + 5
}
