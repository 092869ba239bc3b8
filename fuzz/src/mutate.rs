//! Changes JSON as JSON: bytes changed at random are nearly always broken JSON, which never gets
//! past the parser.

use serde_json::{Map, Value};

/// The dictionary that libFuzzer has too.
const WORDS: &str = include_str!("../words.dict");

/// Numbers at which something begins, ends or overflows.
const NUMBERS: [i128; 12] = [
    -1,
    0,
    1,
    2,
    255,
    65_536,
    i32::MAX as i128,
    u32::MAX as i128,
    1 << 32,
    i64::MAX as i128,
    i64::MIN as i128,
    u64::MAX as i128,
];

/// Rewrites the document in the first `size` bytes of `data`; the new size. `None`: it is not JSON,
/// or became too long.
pub fn json(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    let mut document: Value = serde_json::from_slice(data.get(..size)?).ok()?;
    for _ in 0..=dice.below(3) {
        let at = dice.below(count(&document));
        let other = find(&mut document, &mut dice.below(at + 1).clone()).map(|value| value.clone());
        if let Some(node) = find(&mut document, &mut at.clone()) {
            change(node, other.unwrap_or_default(), &mut dice);
        }
    }
    let text = serde_json::to_vec(&document).ok().filter(|text| text.len() <= max_size)?;
    data.get_mut(..text.len())?.copy_from_slice(&text);
    Some(text.len())
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value with number `left`, counted in the order of the text.
fn find<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|value| find(value, left)),
        Value::Object(members) => members.values_mut().find_map(|value| find(value, left)),
        _ => None,
    }
}

fn change(node: &mut Value, other: Value, dice: &mut Dice) {
    match (node, dice.below(6)) {
        (Value::Array(list), 0) if !list.is_empty() => drop(list.remove(dice.below(list.len()))),
        (Value::Array(list), 1 | 2) if !list.is_empty() => {
            let again = list[dice.below(list.len())].clone();
            list.push(again);
        }
        (Value::Array(list), 3) => list.push(other),
        (Value::Object(members), 0) if !members.is_empty() => {
            let name = name(members, dice);
            members.remove(&name);
        }
        (Value::Object(members), 1) => drop(members.insert(word(dice).to_owned(), other)),
        (Value::Object(members), 2) => drop(members.insert(word(dice).to_owned(), anything(dice))),
        (Value::Object(members), 3) if !members.is_empty() => {
            let value = members.remove(&name(members, dice)).unwrap_or_default();
            members.insert(word(dice).to_owned(), value);
        }
        (Value::String(text), 0 | 1) => *text = word(dice).to_owned(),
        (Value::String(text), 2) => text.push_str(word(dice)),
        (Value::String(text), 3) => text.push(['\0', '\n', '/', ',', '-', ':', '%', '\u{e4}'][dice.below(8)]),
        (Value::String(text), 4) => drop(text.pop()),
        (node @ Value::Number(_), 0..=4) => {
            let near = NUMBERS[dice.below(NUMBERS.len())] + dice.below(3) as i128 - 1;
            *node = number(near).unwrap_or_default();
        }
        (node, 5) => *node = anything(dice),
        (node, _) => *node = other,
    }
}

fn number(number: i128) -> Option<Value> {
    u64::try_from(number).map(Value::from).or(i64::try_from(number).map(Value::from)).ok()
}

fn name(members: &Map<String, Value>, dice: &mut Dice) -> String {
    members.keys().nth(dice.below(members.len())).cloned().unwrap_or_default()
}

fn anything(dice: &mut Dice) -> Value {
    match dice.below(8) {
        0 => Value::Null,
        1 => Value::from(dice.below(2) == 0),
        2 => Value::Array(Vec::new()),
        3 => Value::Object(Map::new()),
        4 => Value::from(["/", "a"][dice.below(2)].repeat(dice.below(300))),
        5 => Value::from(word(dice)),
        _ => number(NUMBERS[dice.below(NUMBERS.len())]).unwrap_or_default(),
    }
}

fn word(dice: &mut Dice) -> &'static str {
    let words = || WORDS.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    words().nth(dice.below(words().count())).unwrap_or_default()
}

struct Dice(u64);

impl Dice {
    /// From 0 to below `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
