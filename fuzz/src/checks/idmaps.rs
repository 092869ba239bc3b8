//! Id maps, a line each as the kernel writes them: first id inside, first id outside, how many.

use emergence_runc::plan::{IdMaps, Judge, ids};
use emergence_runc::spec::IdMapping;

use super::{Dice, one_line};

pub fn check(bytes: &[u8]) {
    let maps = parse(&String::from_utf8_lossy(bytes));
    let mut judge = Judge::default();
    let judged = IdMaps::judge(&maps, &maps, format_args!("linux"), &mut judge);
    judge.faults.iter().for_each(|fault| one_line(&fault.to_string()));
    assert_eq!(judged.is_some(), judge.faults.is_empty(), "refused without a reason, or taken with one");
    assert_eq!(judged.is_some(), good(&maps), "{maps:?}: {:?}", judge.faults);
    assert_eq!(parse(&ids::lines(&maps)), maps);
    let mut dice = Dice::of(bytes);
    for map in judged.iter().flat_map(|judged| &judged.uid) {
        for id in [map.container_id, map.container_id.wrapping_add(map.size), dice.next() as u32] {
            assert_eq!(IdMaps::outside(&maps, id), outside(&maps, id), "{id} in {maps:?}");
        }
    }
}

fn parse(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut words = line.split(' ').map(|word| word.parse().ok());
        Some(IdMapping { container_id: words.next()??, host_id: words.next()??, size: words.next()?? })
    };
    text.lines().filter_map(line).collect()
}

/// Ids inside and outside that a map covers, in numbers that cannot overflow.
fn ranges(map: &IdMapping) -> [std::ops::Range<u64>; 2] {
    [map.container_id, map.host_id].map(|first| u64::from(first)..u64::from(first) + u64::from(map.size))
}

/// As the kernel judges: user_namespaces(7).
fn good(maps: &[IdMapping]) -> bool {
    let apart = |a: &std::ops::Range<u64>, b: &std::ops::Range<u64>| a.end <= b.start || b.end <= a.start;
    let pairs = maps.iter().enumerate().flat_map(|(at, a)| maps.iter().skip(at + 1).map(move |b| (a, b)));
    (1..=340).contains(&maps.len())
        && maps
            .iter()
            .all(|map| map.size > 0 && ranges(map).iter().all(|range| range.end <= u64::from(u32::MAX)))
        && { pairs }.all(|(a, b)| ranges(a).iter().zip(&ranges(b)).all(|(a, b)| apart(a, b)))
}

fn outside(maps: &[IdMapping], id: u32) -> Option<u32> {
    let map = maps.iter().find(|map| ranges(map)[0].contains(&u64::from(id)))?;
    u32::try_from(u64::from(id) - u64::from(map.container_id) + u64::from(map.host_id)).ok()
}
