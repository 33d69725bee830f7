//! What a person and a script see. A reader who has gone away is no error.

use std::io::{IsTerminal, Write};

use belljar_branch::engine::files::{LineStyle, StyledLine, visible};
use serde_json::Value;

/// One line to standard output.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").is_err() {}
}

/// One line to standard error; what would steer a terminal is shown, not sent.
pub(crate) fn complain(line: &str) {
    let mut out = std::io::stderr().lock();
    if writeln!(out, "{}", visible(line.as_bytes())).is_err() {}
}

/// One JSON object on one line.
pub(crate) fn json(value: &Value) {
    say(&value.to_string());
}

/// Whether lines get colours: on a terminal, unless unwanted.
pub(crate) fn coloured(plain: bool) -> bool {
    !plain && std::io::stdout().is_terminal()
}

/// Lines of a diff, all at once.
pub(crate) fn lines(lines: &[StyledLine], coloured: bool) {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines {
        let code = match line.style {
            LineStyle::Header => "1",
            LineStyle::Place => "36",
            LineStyle::Removed => "31",
            LineStyle::Added => "32",
            LineStyle::Note => "2",
            LineStyle::Warning => "33",
            LineStyle::Context => "",
        };
        let wrote = if coloured && !code.is_empty() {
            writeln!(out, "\x1b[{code}m{}\x1b[0m", line.text)
        } else {
            writeln!(out, "{}", line.text)
        };
        if wrote.is_err() {
            return;
        }
    }
}

/// A number of bytes as a person reads it.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, shift)| bytes >> shift > 0);
    match unit {
        Some((unit, shift)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

/// Columns, as wide as their widest cell.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            format!(
                "{cell}{}",
                " ".repeat(width.saturating_sub(cell.chars().count()))
            )
        });
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
