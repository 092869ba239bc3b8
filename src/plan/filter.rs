//! The system call filter: compiled from `linux.seccomp`, or brought by an annotation that replaces it.

use super::{Judge, annotated};
use crate::security::seccomp::{self, Arch, Filter};
use crate::spec::{self, Spec};
use crate::sys::seccomp::SockFilter;

/// A filter that is compiled already: `struct sock_filter` one behind the other, in base64. Source: crun(1).
const READY: &str = "run.oci.seccomp_bpf_data";

/// Most instructions that the kernel takes, BPF_MAXINSNS.
const MOST: usize = 4096;

pub(super) fn plan(spec: &Spec, judge: &mut Judge) -> Option<Filter> {
    if let Some(text) = spec.annotations.get(READY) {
        let program = ready(text).map_err(|words| judge.fault(format!("annotations.{READY}"), words)).ok()?;
        return Some(Filter { program, flags: 0, listener: None, warnings: Vec::new() });
    }
    compiled(spec.linux.as_ref()?.seccomp.as_ref()?, spec, judge)
}

fn compiled(profile: &spec::Seccomp, spec: &Spec, judge: &mut Judge) -> Option<Filter> {
    let Some(native) = Arch::native() else {
        judge.fault("linux.seccomp", "not supported on this architecture");
        return None;
    };
    let refuse_unknown = annotated(spec, "run.oci.seccomp_fail_unknown_syscall", "1");
    match seccomp::compile(profile, native, refuse_unknown) {
        Ok(filter) => {
            judge.details.extend(filter.warnings.iter().map(|words| format!("linux.seccomp: {words}")));
            Some(filter)
        }
        Err(faults) => {
            for (path, words) in faults {
                judge.fault(format!("linux.seccomp.{path}"), words);
            }
            None
        }
    }
}

/// The kernel judges what the instructions do.
fn ready(text: &str) -> Result<Vec<SockFilter>, String> {
    let bytes = base64(text).ok_or("is not base64")?;
    let (each, rest) = bytes.as_chunks::<8>();
    if each.is_empty() || !rest.is_empty() || each.len() > MOST {
        return Err(format!("holds {} bytes; a filter is 1 to {MOST} instructions of 8 bytes", bytes.len()));
    }
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| SockFilter {
        code: u16::from_ne_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*k0, *k1, *k2, *k3]),
    };
    Ok(each.iter().map(instruction).collect())
}

/// RFC 4648, section 4: padded, in one line.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    // What padding stands for is nothing.
    (held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_base64() {
        let table: [(&str, Option<&[u8]>); 10] = [
            ("", Some(b"")),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("+/+/", Some(&[0xfb, 0xff, 0xbf])),
            ("Zh==", None),
            ("Zg", None),
            ("Z===", None),
            ("Zg==Zg==", None),
            ("Zm9 ", None),
        ];
        for (text, want) in table {
            assert_eq!(base64(text).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn a_ready_filter_is_whole_instructions() {
        // BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
        let [allow] = ready("BgAAAAAA/38=").unwrap()[..] else { panic!("one instruction") };
        assert_eq!((allow.code, allow.jt, allow.jf, allow.k), (6, 0, 0, 0x7fff_0000));
        let long = "AAAA".repeat(8 * (MOST + 3) / 3 / 8 * 8);
        for bad in ["", "BgAAAAAA/3", "BgAAAAAA", "?", &long] {
            assert!(ready(bad).is_err(), "{bad:.20}");
        }
    }
}
