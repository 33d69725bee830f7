//! What docs/formats/network-rules.md shows is read as it says.

use belljar_base::bounds::{
    EGRESS_FILE_BYTES_MAX, EGRESS_NET_4_BITS_MIN, EGRESS_NET_6_BITS_MIN, EGRESS_RULES_MAX,
};
use belljar_policy::egress::{Mode, Rule, RulesFile};

const MANUAL: &str = include_str!("../../../../docs/formats/network-rules.md");

#[test]
fn the_file_of_the_manual_is_one() {
    let (_, file) = MANUAL.split_once("```toml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    let file = RulesFile::parse(file).unwrap();
    let rules = file.for_agent(&"reviewer".parse().unwrap());
    let texts: Vec<_> = rules.rules.iter().map(|rule| rule.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "https+wss://api.example.com:443,8443/v1 GET,HEAD",
            "*.internal.example.com",
            "docs.example.com",
        ]
    );
    assert_eq!(rules.mode, Mode::Observe);
    assert_eq!(rules.quota.requests, Some(1000));
    assert_eq!(rules.quota.up_bytes, Some(1_000_000_000));
}

#[test]
fn the_rules_of_the_manual_are_some() {
    let (_, table) = MANUAL.split_once("| text | allows |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let cells = table.lines().filter_map(|line| line.split('|').nth(1));
    let texts: Vec<_> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(texts.len() > 10, "{texts:?}");
    for text in texts {
        Rule::parse_allow(text).unwrap();
    }
}

#[test]
fn the_bounds_of_the_manual_hold() {
    for bound in [
        format!("at most {} MiB", EGRESS_FILE_BYTES_MAX >> 20),
        format!("1,{:03} rules for one agent", EGRESS_RULES_MAX - 1000),
        format!(
            "a /{EGRESS_NET_4_BITS_MIN} of version 4 or a /{EGRESS_NET_6_BITS_MIN} of version 6"
        ),
    ] {
        assert!(MANUAL.contains(&bound), "{bound}");
    }
}
