//! Rules to program: a system-call filter as data becomes one BPF program with a binary search,
//! so that a call costs about ten instructions, and the kernel's own table of always-allowed
//! calls is computed quickly when the filter is installed.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Calls by name, one file per architecture.
type Numbers = BTreeMap<String, u32>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    version: u32,
    default: String,
    #[expect(dead_code, reason = "for readers of the data")]
    default_reason: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[expect(dead_code, reason = "for readers of the data")]
    reason: String,
    action: String,
    calls: Vec<String>,
    argument: Option<u32>,
    /// Only these bits of the argument are judged.
    mask: Option<u32>,
    none_of_bits: Option<u32>,
    one_of: Option<Vec<u32>>,
    not_one_of: Option<Vec<u32>>,
    otherwise: Option<String>,
    #[serde(default)]
    when: Vec<When>,
}

/// When one argument is one of some values, another must be one of some too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    argument: u32,
    is: Vec<u32>,
    also: u32,
    one_of: Vec<u32>,
    otherwise: String,
}

/// What happens to one call.
#[derive(Clone, PartialEq)]
enum Verdict {
    Always(u32),
    /// Position in the list of judged rules.
    Judged(usize),
}

/// One classic BPF instruction.
#[derive(Clone, Copy)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_ARGUMENTS: u32 = 16;

/// The program's bytes, `sock_filter` after `sock_filter`, in this machine's byte order.
pub(crate) fn compile(text: &str, numbers: &str) -> Result<Vec<u8>, String> {
    let filter: Filter = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let numbers: Numbers = serde_json::from_str(numbers).map_err(|error| error.to_string())?;
    if filter.version != 1 {
        return Err(format!("version {} is unknown", filter.version));
    }
    let default = action(&filter.default)?;
    let verdicts = verdicts(&filter, &numbers)?;
    let mut program = vec![
        load(AT_ARCHITECTURE),
        jump(JUMP_EQUAL, architecture(), 1, 0),
        give(KILL_PROCESS),
        load(AT_NUMBER),
    ];
    let ranges = ranges(&verdicts, default);
    search(&ranges, &filter.rules, &mut program)?;
    if program.len() > 4096 {
        return Err(format!(
            "{} instructions are over the kernel's bound",
            program.len()
        ));
    }
    Ok(program.iter().flat_map(bytes).collect())
}

fn bytes(one: &Instruction) -> Vec<u8> {
    let mut out = one.code.to_ne_bytes().to_vec();
    out.extend([one.jump_true, one.jump_false]);
    out.extend(one.value.to_ne_bytes());
    out
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        value: offset,
    }
}

fn jump(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction {
        code,
        jump_true,
        jump_false,
        value,
    }
}

fn give(value: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        value,
    }
}

fn architecture() -> u32 {
    if cfg!(target_arch = "x86_64") {
        0xC000_003E
    } else {
        0xC000_00B7
    }
}

fn action(name: &str) -> Result<u32, String> {
    Ok(match name {
        "allow" => ALLOW,
        "EPERM" => ERRNO | 1,
        "ENOSYS" => ERRNO | 38,
        "ENOTTY" => ERRNO | 25,
        "EPROTONOSUPPORT" => ERRNO | 93,
        "EOPNOTSUPP" => ERRNO | 95,
        "EAFNOSUPPORT" => ERRNO | 97,
        other => return Err(format!("action `{other}` is unknown")),
    })
}

fn verdicts(filter: &Filter, numbers: &Numbers) -> Result<BTreeMap<u32, Verdict>, String> {
    let mut verdicts = BTreeMap::new();
    for (place, rule) in filter.rules.iter().enumerate() {
        let verdict = match rule.argument {
            Some(_) => Verdict::Judged(place),
            None => Verdict::Always(action(&rule.action)?),
        };
        for call in &rule.calls {
            let number = numbers
                .get(call)
                .ok_or_else(|| format!("`{call}` has no number"))?;
            if verdicts.insert(*number, verdict.clone()).is_some() {
                return Err(format!("`{call}` has two rules"));
            }
        }
    }
    Ok(verdicts)
}

/// Neighbouring numbers with one verdict become one range: (first number, verdict).
fn ranges(verdicts: &BTreeMap<u32, Verdict>, default: u32) -> Vec<(u32, Verdict)> {
    let mut ranges: Vec<(u32, Verdict)> = vec![(0, Verdict::Always(default))];
    let mut add = |start: u32, verdict: Verdict| {
        if let Some(last) = ranges.last_mut() {
            if last.0 == start {
                last.1 = verdict;
                return;
            }
            if last.1 == verdict && !matches!(verdict, Verdict::Judged(_)) {
                return;
            }
        }
        ranges.push((start, verdict));
    };
    let mut next = 0;
    for (number, verdict) in verdicts {
        if *number > next {
            add(next, Verdict::Always(default));
        }
        add(*number, verdict.clone());
        next = number + 1;
    }
    add(next, Verdict::Always(default));
    ranges
}

/// A binary search over the ranges, then the verdict.
fn search(
    ranges: &[(u32, Verdict)],
    rules: &[Rule],
    program: &mut Vec<Instruction>,
) -> Result<(), String> {
    if let [(_, verdict)] = ranges {
        return judge(verdict, rules, program);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let pivot = high.first().map_or(0, |range| range.0);
    let mut below = Vec::new();
    search(low, rules, &mut below)?;
    // Conditional jumps reach 255 instructions; a plain jump reaches any place.
    match u8::try_from(below.len()) {
        Ok(distance) => program.push(jump(JUMP_GREATER_EQUAL, pivot, distance, 0)),
        Err(_) => {
            program.push(jump(JUMP_GREATER_EQUAL, pivot, 0, 1));
            program.push(jump(
                JUMP,
                u32::try_from(below.len()).map_err(|e| e.to_string())?,
                0,
                0,
            ));
        }
    }
    program.extend(below);
    search(high, rules, program)
}

fn judge(verdict: &Verdict, rules: &[Rule], program: &mut Vec<Instruction>) -> Result<(), String> {
    let place = match verdict {
        Verdict::Always(action) => {
            program.push(give(*action));
            return Ok(());
        }
        Verdict::Judged(place) => *place,
    };
    let rule = rules.get(place).ok_or("a rule is lost")?;
    let argument = rule.argument.ok_or("a judged rule names no argument")?;
    let (yes, no) = (
        action(&rule.action)?,
        action(rule.otherwise.as_deref().unwrap_or("EPERM"))?,
    );
    for when in &rule.when {
        condition(when, program)?;
    }
    // The low 32 bits: each of these arguments is an `int` or a set of low flags to the kernel.
    program.push(load(AT_ARGUMENTS + argument * 8));
    program.extend(rule.mask.map(|mask| jump(AND, mask, 0, 0)));
    match (rule.none_of_bits, &rule.one_of, &rule.not_one_of) {
        (Some(bits), None, None) => {
            program.extend([jump(JUMP_BITS, bits, 1, 0), give(yes), give(no)]);
        }
        (None, Some(values), None) => each(values, yes, no, program),
        (None, None, Some(values)) => each(values, no, yes, program),
        _ => return Err("a judged rule has exactly one condition".to_owned()),
    }
    Ok(())
}

/// Refuses what one argument demands of another and does not get; else goes on behind itself.
fn condition(when: &When, program: &mut Vec<Instruction>) -> Result<(), String> {
    let far = |distance: usize| u8::try_from(distance).map_err(|error| error.to_string());
    let (values, demands) = (when.is.len(), when.one_of.len());
    program.push(load(AT_ARGUMENTS + when.argument * 8));
    for (place, value) in when.is.iter().enumerate() {
        program.push(jump(JUMP_EQUAL, *value, far(values - place)?, 0));
    }
    // Past the second load, its comparisons and the refusal.
    let behind = u32::try_from(demands + 2).map_err(|error| error.to_string())?;
    program.push(jump(JUMP, behind, 0, 0));
    program.push(load(AT_ARGUMENTS + when.also * 8));
    for (place, demand) in when.one_of.iter().enumerate() {
        program.push(jump(JUMP_EQUAL, *demand, far(demands - place)?, 0));
    }
    program.push(give(action(&when.otherwise)?));
    Ok(())
}

/// One of `values` gives `found`, anything else `other`.
fn each(values: &[u32], found: u32, other: u32, program: &mut Vec<Instruction>) {
    for value in values {
        program.extend([jump(JUMP_EQUAL, *value, 0, 1), give(found)]);
    }
    program.push(give(other));
}
