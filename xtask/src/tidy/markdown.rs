//! The tables of a document.

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The line, from 1.
    pub(super) line: usize,
    /// The cells, trimmed.
    pub(super) cells: Vec<String>,
}

impl Row {
    /// The cell at `at`, or nothing.
    pub(super) fn cell(&self, at: usize) -> &str {
        self.cells.get(at).map_or("", String::as_str)
    }

    /// The last cell.
    pub(super) fn last(&self) -> &str {
        self.cells.last().map_or("", String::as_str)
    }
}

/// The rows of every table, without head and rule.
pub(super) fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut in_body = false;
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if !content.starts_with('|') {
            in_body = false;
        } else if content.chars().all(|c| "|-: ".contains(c)) {
            in_body = true;
        } else if in_body {
            let cells = cells(content);
            rows.push(Row { line, cells });
        }
    }
    rows
}

fn cells(content: &str) -> Vec<String> {
    let inner = content.trim_matches('|').replace("\\|", "\u{0}");
    inner
        .split('|')
        .map(|cell| cell.trim().replace('\u{0}', "|"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_its_body() {
        let text = "x\n\n| a | b |\n| --- | --- |\n| 1 \\| 2 | `t` |\n\n| not a row |\n";
        let found = rows(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 5);
        assert_eq!(found[0].cell(0), "1 | 2");
        assert_eq!(found[0].last(), "`t`");
    }
}
